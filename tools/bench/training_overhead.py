"""Print what a step of RNI's and of LAPP's training takes beside a plain one, on this machine's training device.

    python tools/bench/training_overhead.py tools/reproduce/networks.py:resnet20 --input 1x3x32x32 --batch 128

Steps of all methods are taken in turn, in an order that is drawn anew each round, so that a busy moment meets all
alike; a row is the median over the rounds, and the change is the median of the rounds' own ratios. A step is all of it:
images to the device, forward, loss, backward, optimizer, and what the method does. On a processor it is timed by what
the process used of it, so that what other programs use is not counted.

    plain             the network as it is
    rni               bounded BatchNorms and the penalty
    slimming          the penalty on the scales
    bypasses alone    what LAPP's bypasses cost without any threshold, from the first step to the last
    lapp              thresholds on filters while they prune, with bypasses as they come (pointwise)
    lapp, no bypass   these thresholds alone
    channels          thresholds on channels while they prune, with bypasses
    channels, no bypass
"""

from __future__ import annotations

import random
import statistics
import time

import torch
from network_options import Parser
from torch import nn

from edgeprune.artifacts.source import load_source
from edgeprune.training.lapp import Lapp, Settings
from edgeprune.training.lapp_network import with_bypasses
from edgeprune.training.learner import Learner
from edgeprune.training.methods import Method, Plain, Rni, Slimming
from edgeprune.training.recipe import Recipe
from edgeprune.units import parse_shape

LONG = 1_000_000


def main() -> None:
    """Warm up, take steps in turn, print."""
    parser = Parser(__doc__)
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--input", type=parse_shape)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = load_source(options.model, input_shape=options.input)
    classes = source.model(*source.inputs).shape[1]
    images = torch.randn(options.batch, *source.input_shape[1:])
    labels = torch.randint(classes, (options.batch,))
    learners = {name: _learner(model, method) for name, (model, method) in _rows(source.model, source.inputs).items()}
    times: dict[str, list[float]] = {name: [] for name in learners}
    order = list(learners)
    for number in range(options.rounds + 3):
        random.Random(number).shuffle(order)
        for name in order:
            seconds = _step(learners[name], images, labels, number)
            if number >= 3:  # the first steps choose kernels
                times[name].append(seconds)
    device = torch.cuda.get_device_name() if learners["plain"].device.type == "cuda" else f"{options.threads} threads"
    print(f"{source.name}, {options.batch} images a step, {device}, {options.rounds} rounds")
    for name, found in times.items():
        ratios = [one / plain for one, plain in zip(found, times["plain"], strict=True)]
        print(f"{name:19s} {1000 * statistics.median(found):9.2f} ms  {statistics.median(ratios) - 1:+7.1%}")


def _rows(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, tuple[nn.Module, Method]]:
    # All of the training is pruning, and so long that no threshold gets anywhere: each step is on the whole network.
    pruning = {"target": 0.5, "pruning": 1.0, "dense_epochs": 0.0}
    return {
        "plain": (model, Plain()),
        "rni": (model, Rni()),
        "slimming": (model, Slimming()),
        "bypasses alone": (with_bypasses(model, inputs, "pointwise"), Plain()),
        "lapp": (model, Lapp(Settings(**pruning), inputs)),
        "lapp, no bypass": (model, Lapp(Settings(bypass="none", **pruning), inputs)),
        "channels": (model, Lapp(Settings(removes="channels", **pruning), inputs)),
        "channels, no bypass": (model, Lapp(Settings(removes="channels", bypass="none", **pruning), inputs)),
    }


def _learner(model: nn.Module, method: Method) -> Learner:
    return Learner(model, None, Recipe(epochs=1, learning_rate=0.01), method, LONG)


def _step(learner: Learner, images: torch.Tensor, labels: torch.Tensor, number: int) -> float:
    clock = time.perf_counter if learner.device.type == "cuda" else time.process_time
    started = clock()
    learner.learn(images, labels, 0.01, number)
    if learner.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


if __name__ == "__main__":
    main()
