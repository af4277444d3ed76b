"""LAPP's headline points, by our reading of its abstract, with the controls that a gain has to be held against.

    python tools/reproduce/lapp.py --network resnet20 --data cifar10.npz --scale paper     # on a GPU
    python tools/reproduce/lapp.py --network resnet20 --data cifar10.npz --scale short     # on a CPU
    accelerate launch tools/reproduce/lapp.py --network resnet18 --data IMAGENET --scale paper

Killed runs go on where they were.

resnet20  CIFAR-10, 40.3 % of the MACs left; the paper's claim: no less accurate than dense
          paper: 400 epochs, batches of 128, rate 0.1 and a tenth at half and at three quarters, 3 seeds
          short: 5,000 images, 6 epochs, batches of 32, rate 0.05, 2 seeds, 5,000 test images
resnet18  ImageNet in a folder with train/ and val/, 44.4 % of the MACs left; the paper's claim: top-1 +0.21 over dense
          paper: 120 epochs, batches of 256, rate 0.1 and a tenth at a quarter, a half, three quarters; 1 seed

The recipes are those of the same authors' LRPET (its code's defaults): whether LAPP used them could not be found out.

Rows: dense, as long | LAPP by filters | the same with uniform rates | without bypasses | by channels | the bypasses
alone | a narrower dense network of the same MACs. They are done in this order, and table.md has those that are done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from networks import CIFAR_INPUT, build, initialised, narrower
from study import Scale, Study, arguments, each, markdown, percent, run
from torch import nn

from edgeprune.graph.trace import trace
from edgeprune.training.lapp import Lapp, Settings
from edgeprune.training.lapp_network import rebuild
from edgeprune.training.lapp_units import prunable
from edgeprune.training.loop import Recipe, Trained
from edgeprune.training.methods import Method, Plain

TARGETS = {"resnet20": 0.403, "resnet18": 0.444}
INPUTS = {"resnet20": CIFAR_INPUT, "resnet18": (1, 3, 224, 224)}
SCALES = {
    ("resnet20", "paper"): Scale(epochs=400, seeds=3, batch_size=128),
    ("resnet20", "short"): Scale(
        epochs=6,
        seeds=2,
        batch_size=32,
        learning_rate=0.05,
        images=5000,
        held_out=0,
        tested=5000,
        judged=False,
    ),
    ("resnet18", "paper"): Scale(epochs=120, seeds=1, batch_size=256, held_out=0),
}


def main() -> None:
    """Do the table."""
    options = arguments(__doc__, ("resnet20", "resnet18")).parse_args()
    if (options.network, options.scale) not in SCALES:
        raise SystemExit(f"{options.network} has no scale {options.scale}: it is for --scale paper")
    network = options.network
    run(options, "lapp", SCALES[network, options.scale], partial(table, network))


def table(network: str, study: Study) -> None:
    """Train every row at every seed; write the table whenever a row is done."""
    scale, done = study.scale, []
    names = [name for name, _, _ in _rows(network, 0)]
    for at, name in enumerate(names):
        for seed in range(scale.seeds):
            _, model, method = _rows(network, seed)[at]
            cell, sizes = _cell(network, name, seed), partial(_sizes, network)
            study.cell(cell, model, recipe(network, scale, seed), method, finished=sizes)
        done.append(name)
        study.write(_markdown(study, network, done))


def _cell(network: str, name: str, seed: int) -> str:
    return f"{network}-{name}-{seed}".replace(" ", "_")


def _rows(network: str, seed: int) -> list[tuple[str, Callable[[], nn.Module], Callable[[], Method]]]:
    target, inputs = TARGETS[network], torch.zeros(INPUTS[network])
    dense = partial(_dense, network, seed)

    def lapp(**changes: Any) -> Callable[[], Method]:
        return lambda: Lapp(Settings(target, **changes), inputs)

    rows: list[tuple[str, Callable[[], nn.Module], Callable[[], Method]]] = [
        ("dense", dense, Plain),
        ("LAPP", dense, lapp()),
        ("uniform rates", dense, lapp(uniform=True)),
        ("no bypass", dense, lapp(bypass="none")),
        ("channels", dense, lapp(removes="channels")),
        ("bypass alone", partial(_bypass_alone, network, seed), Plain),
    ]
    if network == "resnet20":
        rows.append(("narrower dense", lambda: initialised(narrower(3, target), seed), Plain))
    else:
        rows.append(("narrower dense", partial(_narrower_resnet18, target, seed), Plain))
    return rows


def _dense(network: str, seed: int) -> nn.Module:
    if network == "resnet20":
        return build(network, seed)
    from torchvision.models import resnet18

    torch.manual_seed(seed)
    return resnet18()


def _bypass_alone(network: str, seed: int) -> nn.Module:
    """Return the network with its bypasses in place of the convolutions that LAPP would prune."""
    model = _dense(network, seed)
    layers = list(prunable(model, trace(model, torch.zeros(INPUTS[network])), "pointwise"))
    torch.manual_seed(seed)
    return rebuild(model, {"bypass": "pointwise", "layers": layers, "filters": {name: [] for name in layers}})


def _narrower_resnet18(share: float, seed: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    class Narrow(ResNet):
        """ResNet-18 of another width."""

        def __init__(self, width: int) -> None:
            self.width = width
            super().__init__(BasicBlock, [2, 2, 2, 2])
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.bn1 = nn.BatchNorm2d(width)
            self.fc = nn.Linear(8 * width, 1000)

        def _make_layer(
            self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False
        ) -> nn.Sequential:
            self.inplanes = self.inplanes if planes != 64 else self.width
            return super()._make_layer(block, planes * self.width // 64, blocks, stride, dilate)

    torch.manual_seed(seed)
    return Narrow(int(64 * share**0.5))


def recipe(network: str, scale: Scale, seed: int) -> Recipe:
    """Return how every row of a network is trained."""
    return Recipe(
        epochs=scale.epochs,
        learning_rate=scale.learning_rate,
        weight_decay=1e-4,
        decay_vectors=True,
        batch_size=scale.batch_size,
        warmup_epochs=0,
        milestones=(0.5, 0.75) if network == "resnet20" else (0.25, 0.5, 0.75),
        seed=seed,
    )


def _sizes(network: str, trained: Trained, method: Method) -> dict[str, Any]:
    dense, left = (trace(one.eval(), torch.zeros(INPUTS[network])) for one in (_dense(network, 0), trained.model.cpu()))
    return {"macs_left": left.macs() / dense.macs(), "params_left": left.params() / dense.params()}


def _markdown(study: Study, network: str, names: Sequence[str]) -> str:
    rows, kinds, seeds = [], study.scale.kinds, range(study.scale.seeds)
    compared = "chosen" if study.scale.judged else "last"
    for name in names:
        cells = [study.cells[_cell(network, name, seed)] for seed in seeds]
        base = [study.cells[_cell(network, "dense", seed)] for seed in seeds]
        left = [percent(cells[0][key]) for key in ("macs_left", "params_left")]
        found = [each([cell[kind] for cell in cells]) for kind in kinds]
        change = 100 * sum(one[compared] - other[compared] for one, other in zip(cells, base, strict=True)) / len(cells)
        rows.append([name, *left, *found, "" if name == "dense" else f"{change:+.2f}"])
    return markdown(["", "MACs left", "parameters left", *kinds.values(), "points from dense"], rows)


if __name__ == "__main__":
    sys.exit(main())
