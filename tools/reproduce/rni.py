"""RNI's table: train, prune once, fine-tune; RNI beside Network Slimming (L1) and uniform pruning (UCS).

    python tools/reproduce/rni.py --network vgg16         --data cifar10.npz --scale paper      # on a GPU
    python tools/reproduce/rni.py --network vgg16-quarter --data cifar10.npz --scale short      # on a CPU

Killed runs go on where they were. `accelerate launch tools/reproduce/rni.py ...` uses several GPUs.

paper   vgg16, resnet56, resnet20: 160 epochs to train and 160 to fine-tune, batches of 64, rate 0.1, 3 seeds, all
        images but 5,000 held out (the paper holds none out, and reports the best epoch on the test images; both are in
        the table)
short   vgg16-quarter (a quarter of VGG-16's width) 18 epochs, resnet20 12 epochs: 6,000 images of which 1,000 are held
        out, batches of 32, rate 0.05, 2 seeds, 5,000 test images, no fine-tuning: whether the order of the methods
        shows right after the cut, not their accuracies

The short scale takes a fiftieth of the paper's steps, and a penalty moves a scale by strength x rate x steps. So its
strengths are larger: a few are tried for each penalty at the first seed, around the paper's times the ratio of the
summed rates, and the one that is best on the held-out images right after the cuts, on average over both, is kept for
every seed.

As in the published code: SGD with Nesterov's momentum 0.9, a tenth of the rate at half and at three quarters, weight
decay 1e-4 on everything but the bounded scales; filters ranked by one quantile over all prunable layers (UCS: a
quantile a layer), at least 3 a layer left; fine-tuning repeats the recipe without the penalty. Not as there: the
weights that are pruned are those of the last epoch, and the initial weights are drawn from the seed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from networks import CIFAR_INPUT, build, prunable_norms
from study import Scale, Study, arguments, each, markdown, percent, run, spread
from torch import nn

from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import slim
from edgeprune.training import slimming
from edgeprune.training.loop import Recipe
from edgeprune.training.methods import Method, Plain, Rni, Slimming

RATIOS = (0.5, 0.9)
LEAST = 3
LOW, HIGH = 0.02, 0.2
PAPER = Scale(epochs=160, seeds=3, batch_size=64)
SHORT = Scale(
    epochs=12,
    seeds=2,
    batch_size=32,
    learning_rate=0.05,
    images=6000,
    held_out=1000,
    tested=5000,
    judged=False,
)
SCALES = {
    "paper": {"vgg16": PAPER, "resnet56": PAPER, "resnet20": PAPER},
    "short": {"vgg16-quarter": replace(SHORT, epochs=18), "resnet20": SHORT},
}
Methods = Mapping[str, Sequence[Method]]
VGG: Methods = {"RNI": [Rni(1e-3, shift=3.0)], "L1": [Slimming(1e-4)], "UCS": [Plain()]}
RESNET: Methods = {"RNI": [Rni(1e-4, shift=0.0)], "L1": [Slimming(1e-5)], "UCS": [Plain()]}
METHODS: Mapping[str, Mapping[str, Methods]] = {
    "paper": {"vgg16": VGG, "resnet56": RESNET, "resnet20": RESNET},
    "short": {
        "vgg16-quarter": {
            "RNI": [Rni(strength, shift=3.0) for strength in (0.15, 0.3, 0.6)],
            "L1": [Slimming(strength) for strength in (0.0005, 0.001, 0.002, 0.004)],
            "UCS": [Plain()],
        },
        "resnet20": {
            "RNI": [Rni(strength, shift=0.0) for strength in (0.0005, 0.0015, 0.005)],
            "L1": [Slimming(strength) for strength in (0.0005, 0.0015, 0.005)],
            "UCS": [Plain()],
        },
    },
}
# The published notebook's: best on the test images, one run; trained, 50 %, 90 % of the filters gone.
PUBLISHED = {
    ("vgg16", "RNI"): (93.63, 93.67, 90.88),
    ("vgg16", "L1"): (93.87, 93.67, 89.95),
    ("vgg16", "UCS"): (93.58, 92.93, 84.05),
    ("resnet56", "RNI"): (93.22, 93.26, 90.01),
    ("resnet56", "L1"): (94.03, 93.37, 89.91),
    ("resnet56", "UCS"): (93.54, 93.51, 88.81),
}


def main() -> None:
    """Do the table."""
    options = arguments(__doc__, sorted({name for scales in SCALES.values() for name in scales})).parse_args()
    scales, network = SCALES[options.scale], options.network
    if network not in scales:
        raise SystemExit(f"{network} has no scale {options.scale}, which is there for {', '.join(scales)}")
    methods = METHODS[options.scale][network]
    run(options, "rni", scales[network], partial(table, network, methods, fine_tuned=options.scale == "paper"))


def table(network: str, methods: Methods, study: Study, *, fine_tuned: bool) -> None:
    """Train every method at every seed, prune, and fine-tune if asked; write the table whenever a seed is done."""
    said: list[str] = []
    chosen = {}
    for name, tried in methods.items():
        chosen[name] = tried[0] if len(tried) == 1 else _best(study, network, name, tried, said)
    for seed in range(study.scale.seeds):
        for name, method in chosen.items():
            trained = _trained(study, network, name, method, seed)
            for ratio in RATIOS:
                small = pruned(study, trained, network, name, ratio)
                sizes = _sizes(small, network)
                study.once(f"{trained}-{ratio:g}-cut", lambda s=small, z=sizes: {"cut": study.tested(s), **z})
                if fine_tuned:
                    # Without the penalty, the bounded scales kept: exactly the ones that were trained.
                    tuned = Rni(0.0, trained=True) if name == "RNI" else Plain()
                    recipe = _recipe(study.scale, seed)
                    study.cell(f"{trained}-{ratio:g}", lambda s=small: s.train(), recipe, lambda t=tuned: t)
        modes = two_modes(study.cells[_cell(network, "RNI", chosen["RNI"], 0)]["importances"])
        study.write("\n".join([_markdown(study, network, chosen, seed + 1, fine_tuned), *said, modes]))


def _best(study: Study, network: str, name: str, tried: Sequence[Method], said: list[str]) -> Method:
    """Return the method whose first network is best on the held-out images right after the cuts, on average."""
    found = []
    for method in tried:
        trained = _trained(study, network, name, method, 0)
        cuts = [partial(pruned, study, trained, network, name, ratio) for ratio in RATIOS]
        cells = [
            study.once(f"{trained}-{ratio:g}-held-out", lambda s=small: {"held_out": study.held_out(s())})
            for ratio, small in zip(RATIOS, cuts, strict=True)
        ]
        found.append([cell["held_out"] for cell in cells])
    shown = ", ".join(
        f"{_strength(method)}: {' and '.join(map(percent, cell))}" for method, cell in zip(tried, found, strict=True)
    )
    ratios = " and ".join(f"{ratio:.0%}" for ratio in RATIOS)
    said.append(f"\n{name}, strengths tried, held-out accuracy at the first seed with {ratios} cut: {shown}")
    return max(zip(tried, found, strict=True), key=lambda one: sum(one[1]))[0]


def _trained(study: Study, network: str, name: str, method: Method, seed: int) -> str:
    """Train the dense network, or find it trained; return the cell's name."""
    cell = _cell(network, name, method, seed)
    study.cell(cell, partial(build, network, seed), _recipe(study.scale, seed), lambda: method)
    return cell


def _cell(network: str, name: str, method: Method, seed: int) -> str:
    return "-".join(one for one in (network, name, _strength(method), str(seed)) if one)


def _strength(method: Method) -> str:
    return f"{method.settings['strength']:g}" if "strength" in method.settings else ""


def _recipe(scale: Scale, seed: int) -> Recipe:
    return Recipe(
        epochs=scale.epochs,
        learning_rate=scale.learning_rate,
        weight_decay=1e-4,
        decay_vectors=True,
        batch_size=scale.batch_size,
        warmup_epochs=0,
        milestones=(0.5, 0.75),
        seed=seed,
    )


def pruned(study: Study, trained: str, network: str, method: str, ratio: float) -> nn.Module:
    """Return a trained network without `ratio` of the filters of its prunable layers."""
    model = study.weights(trained, build(network, 0))
    graph = trace(model.eval(), torch.zeros(CIFAR_INPUT))
    scores = {f"{name}.weight": one.numpy() for name, one in slimming.importances(model).items()}
    scores = {f"{name}.weight": scores[f"{name}.weight"] for name in prunable_norms(model)}
    kept = kept_channels(scores, ratio, per_layer=method == "UCS")
    groups = {slot.tensor: group.name for group in graph for slot in group.slots}
    return slim(model, WidthPlan(graph, {groups[tensor]: channels for tensor, channels in kept.items()})).train()


def kept_channels(scores: Mapping[str, np.ndarray], ratio: float, *, per_layer: bool) -> dict[str, np.ndarray]:
    """Return what lies above the quantile of all scores, or of each layer's own; at least the best three of a layer."""
    overall = np.quantile(np.concatenate(list(scores.values())), ratio)
    kept = {}
    for name, values in scores.items():
        above = np.flatnonzero(values > (np.quantile(values, ratio) if per_layer else overall))
        kept[name] = above if len(above) >= LEAST else np.sort(np.argsort(-values, kind="stable")[:LEAST])
    return kept


def two_modes(importances: Mapping[str, Sequence[float]]) -> str:
    """Say how many of RNI's channels have receded, how many stand high, and how many are in between."""
    found = np.concatenate([np.asarray(one) for one in importances.values()])
    low, high = np.mean(found < LOW), np.mean(found >= HIGH)
    shares = f"{percent(low)} of the channels under {LOW}, {percent(high)} at {HIGH} or above"
    return f"\nRNI, importances at the first seed: {shares}, {percent(1 - low - high)} in between"


def _sizes(model: nn.Module, network: str) -> dict[str, Any]:
    small, dense = (trace(one.eval(), torch.zeros(CIFAR_INPUT)) for one in (model, build(network, 0)))
    return {"macs_left": small.macs() / dense.macs(), "params_left": small.params() / dense.params()}


def _markdown(study: Study, network: str, chosen: Mapping[str, Method], seeds: int, fine_tuned: bool) -> str:
    rows = []
    for name, method in chosen.items():
        cells = [_cell(network, name, method, at) for at in range(seeds)]
        dense = [study.cells[one] for one in cells]
        rows.append([name, _strength(method), "none", "", "", each([cell["last"] for cell in dense])])
        if fine_tuned:
            rows[-1] += [
                *(spread([cell[kind] for cell in dense]) for kind in study.scale.kinds),
                _published(network, name, 0),
            ]
        for at, ratio in enumerate(RATIOS, 1):
            cuts = [study.cells[f"{one}-{ratio:g}-cut"] for one in cells]
            left = [percent(cuts[0][key]) for key in ("macs_left", "params_left")]
            rows.append([name, _strength(method), f"{ratio:.0%}", *left, each([cell["cut"] for cell in cuts])])
            if fine_tuned:
                tuned = [study.cells[f"{one}-{ratio:g}"] for one in cells]
                rows[-1] += [spread([cell[kind] for cell in tuned]) for kind in study.scale.kinds]
                rows[-1].append(_published(network, name, at))
    head = ["method", "strength", "filters gone", "MACs left", "parameters left", "accuracy before any fine-tuning"]
    return markdown([*head, *([*study.scale.kinds.values(), "published (best on test)"] if fine_tuned else [])], rows)


def _published(network: str, name: str, at: int) -> str:
    return f"{PUBLISHED[network, name][at]:.2f}" if (network, name) in PUBLISHED else ""


if __name__ == "__main__":
    sys.exit(main())
