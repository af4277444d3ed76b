"""RNI's table: train, prune once, fine-tune; RNI beside Network Slimming (L1) and uniform pruning (UCS).

    python tools/reproduce/rni.py --network vgg16    --data cifar10.npz --scale paper      # on a GPU
    python tools/reproduce/rni.py --network resnet56 --data cifar10.npz --scale short      # on a CPU

Killed runs go on where they were. `accelerate launch tools/reproduce/rni.py ...` uses several GPUs.

paper   160 epochs to train and 160 to fine-tune, 3 seeds, all images but 5,000 held out (the paper holds none out, and
        reports the best epoch on the test images; both are in the table)
short   the same with fewer images and epochs, 1 seed: whether the order of the methods shows, not their accuracies

As in the published code: SGD with Nesterov's momentum 0.9, batches of 64, rate 0.1, a tenth at half and at three
quarters, weight decay 1e-4 on everything but the bounded scales; filters ranked by one quantile over all prunable
layers (UCS: a quantile a layer), at least 3 a layer left; fine-tuning repeats the recipe without the penalty. Not as
there: the weights that are pruned are those of the last epoch, and the initial weights are drawn from the seed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from networks import CIFAR_INPUT, build, prunable_norms
from study import Scale, Study, arguments, markdown, run, spread
from torch import nn

from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import slim
from edgeprune.training import slimming
from edgeprune.training.loop import Recipe
from edgeprune.training.methods import Method, Plain, Rni, Slimming

RATIOS = (0.5, 0.9)
LEAST = 3
SCALES = {
    ("vgg16", "paper"): Scale(epochs=160, seeds=3),
    ("resnet56", "paper"): Scale(epochs=160, seeds=3),
    ("vgg16", "short"): Scale(epochs=10, seeds=1, images=3000, held_out=500, tested=1000),
    ("resnet56", "short"): Scale(epochs=12, seeds=1, images=4500, held_out=500, tested=1000),
}
METHODS: dict[str, dict[str, Method]] = {
    "vgg16": {"RNI": Rni(1e-3, shift=3.0), "L1": Slimming(1e-4), "UCS": Plain()},
    "resnet56": {"RNI": Rni(1e-4, shift=0.0), "L1": Slimming(1e-5), "UCS": Plain()},
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
    options = arguments(__doc__, ("vgg16", "resnet56")).parse_args()
    network = options.network
    run(options, "rni", SCALES[network, options.scale], partial(table, network=network))


def table(study: Study, scale: Scale, network: str) -> str:
    """Train every method at every seed, prune and fine-tune; return the Markdown."""
    for seed in range(scale.seeds):
        recipe = Recipe(
            epochs=scale.epochs,
            learning_rate=0.1,
            weight_decay=1e-4,
            decay_vectors=True,
            batch_size=64,
            warmup_epochs=0,
            milestones=(0.5, 0.75),
            seed=seed,
        )
        for name, method in METHODS[network].items():
            trained = f"{network}-{name}-{seed}"
            study.cell(trained, partial(build, network, seed), recipe, lambda method=method: method)
            for ratio in RATIOS:
                # Without the penalty, the bounded scales kept: exactly the ones that were trained.
                tuned = Rni(0.0, trained=True) if name == "RNI" else Plain()
                model = partial(pruned, study, trained, network, name, ratio)
                sizes = _sizes(model(), network)
                cell = f"{trained}-{ratio:g}"
                study.cell(cell, model, recipe, lambda tuned=tuned: tuned, finished=lambda *_, sizes=sizes: sizes)
    return _markdown(study, scale, network)


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


def _sizes(model: nn.Module, network: str) -> dict[str, Any]:
    small, dense = (trace(one.eval(), torch.zeros(CIFAR_INPUT)) for one in (model, build(network, 0)))
    return {"macs_left": small.macs() / dense.macs(), "params_left": small.params() / dense.params()}


def _markdown(study: Study, scale: Scale, network: str) -> str:
    rows = []
    for name in METHODS[network]:
        for at, stage in enumerate(("", *(f"-{ratio:g}" for ratio in RATIOS))):
            cells = [study.cells[f"{network}-{name}-{seed}{stage}"] for seed in range(scale.seeds)]
            left = [f"{100 * cells[0][key]:.1f} %" if stage else "" for key in ("macs_left", "params_left")]
            found = [spread([cell[key] for cell in cells]) for key in ("chosen", "best", "last")]
            gone = f"{float(stage[1:]):.0%}" if stage else "none"
            rows.append([name, gone, *left, *found, f"{PUBLISHED[network, name][at]:.2f}"])
    head = ["method", "filters gone", "MACs left", "parameters left", "held-out choice", "best on test", "last epoch"]
    return markdown([*head, "published (best on test)"], rows)


if __name__ == "__main__":
    sys.exit(main())
