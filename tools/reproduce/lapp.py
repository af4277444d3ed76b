"""LAPP's headline points, by our reading of its abstract, with the controls that a gain has to be held against.

    python tools/reproduce/lapp.py --network resnet20 --data cifar10.npz --scale paper     # on a GPU
    python tools/reproduce/lapp.py --network resnet20 --data cifar10.npz --scale short     # on a CPU
    accelerate launch tools/reproduce/lapp.py --network resnet18 --data IMAGENET --scale paper

Killed runs go on where they were.

resnet20  CIFAR-10, 40.3 % of the MACs left; the paper's claim: no less accurate than dense
          paper: 400 epochs, batches of 128, rate 0.1 and a tenth at half and at three quarters, 3 seeds
          short: the same with fewer images and epochs, 1 seed
resnet18  ImageNet in a folder with train/ and val/, 44.4 % of the MACs left; the paper's claim: top-1 +0.21 over dense
          paper: 120 epochs, batches of 256, rate 0.1 and a tenth at a quarter, a half, three quarters; 1 seed

The recipes are those of the same authors' LRPET (its code's defaults): whether LAPP used them could not be found out.

Rows: dense, as long | LAPP by filters | the same with uniform rates | without bypasses | by channels | the bypasses
alone | a narrower dense network of the same MACs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from networks import CIFAR_INPUT, build, initialised, narrower
from study import Scale, Study, arguments, markdown, run, spread
from torch import nn

from edgeprune.graph.trace import trace
from edgeprune.training.lapp import Lapp, Settings, prunable, rebuild
from edgeprune.training.loop import Recipe, Trained
from edgeprune.training.methods import Method, Plain

TARGETS = {"resnet20": 0.403, "resnet18": 0.444}
INPUTS = {"resnet20": CIFAR_INPUT, "resnet18": (1, 3, 224, 224)}
SCALES = {
    ("resnet20", "paper"): Scale(epochs=400, seeds=3),
    ("resnet20", "short"): Scale(epochs=20, seeds=1, images=4500, held_out=500, tested=1000),
    ("resnet18", "paper"): Scale(epochs=120, seeds=1, held_out=0),
}


def main() -> None:
    """Do the table."""
    options = arguments(__doc__, ("resnet20", "resnet18")).parse_args()
    if (options.network, options.scale) not in SCALES:
        raise SystemExit(f"{options.network} has no scale {options.scale}: it is for --scale paper")
    network = options.network
    run(options, "lapp", SCALES[network, options.scale], partial(table, network=network))


def table(study: Study, scale: Scale, network: str) -> str:
    """Train every row at every seed; return the Markdown."""
    names: list[str] = []
    for seed in range(scale.seeds):
        names = []
        for name, model, method in _rows(network, seed):
            names.append(name)
            sizes = partial(_sizes, network)
            study.cell(
                f"{network}-{name}-{seed}".replace(" ", "_"),
                model,
                _recipe(network, scale, seed),
                method,
                finished=sizes,
            )
    return _markdown(study, scale, network, names)


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
    layers = list(prunable(model, trace(model, torch.zeros(INPUTS[network]))))
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


def _recipe(network: str, scale: Scale, seed: int) -> Recipe:
    cifar = network == "resnet20"
    return Recipe(
        epochs=scale.epochs,
        learning_rate=0.1,
        weight_decay=1e-4,
        decay_vectors=True,
        batch_size=128 if cifar else 256,
        warmup_epochs=0,
        milestones=(0.5, 0.75) if cifar else (0.25, 0.5, 0.75),
        seed=seed,
    )


def _sizes(network: str, trained: Trained, method: Method) -> dict[str, Any]:
    dense, left = (trace(one.eval(), torch.zeros(INPUTS[network])) for one in (_dense(network, 0), trained.model.cpu()))
    return {"macs_left": left.macs() / dense.macs(), "params_left": left.params() / dense.params()}


def _markdown(study: Study, scale: Scale, network: str, names: list[str]) -> str:
    rows = []
    for name in names:
        cells = [study.cells[f"{network}-{name}-{seed}".replace(" ", "_")] for seed in range(scale.seeds)]
        base = [study.cells[f"{network}-dense-{seed}"] for seed in range(scale.seeds)]
        left = [f"{100 * cells[0][key]:.1f} %" for key in ("macs_left", "params_left")]
        found = [spread([cell[key] for cell in cells]) for key in ("chosen", "best", "last")]
        change = 100 * sum(one["chosen"] - other["chosen"] for one, other in zip(cells, base, strict=True)) / len(cells)
        rows.append([name, *left, *found, "" if name == "dense" else f"{change:+.2f}"])
    head = ["", "MACs left", "parameters left", "held-out choice", "best on test", "last epoch", "points from dense"]
    return markdown(head, rows)


if __name__ == "__main__":
    sys.exit(main())
