"""LAPP pressed by the measured latency table, against LAPP pressed by MACs, at the same latency.

    python tools/reproduce/lapp_latency.py --data cifar10.npz --stage measure   # on a quiet machine: some minutes
    python tools/reproduce/lapp_latency.py --data cifar10.npz --stage train     # six trainings of lapp.py's short scale
    python tools/reproduce/lapp_latency.py --data cifar10.npz --stage time      # on the quiet machine again

ResNet-20 on CIFAR-10 at 70 % of its latency, by channels and without bypasses, which each cost an engine calls of its
own; recipes and scales are those of lapp.py. Killed stages go on where they were, and a stage needs the one before it.

latency   the thresholds feel the slopes of the measured staircases
MACs      they feel what a channel costs in MACs
uniform   none learns: every layer keeps the same share

All three land on the same latency, as the table predicts it, so that only what pressed differs. The last stage times
the networks that came out beside each other and beside the dense one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from lapp import SCALES, recipe
from networks import CIFAR_INPUT, build
from study import Study, arguments, each, markdown, percent, run

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.errors import TableError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency.bench import open_bench
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill, signature_of
from edgeprune.latency.rule import LONG
from edgeprune.latency.slopes import LatencyCost
from edgeprune.latency.store import TableStore
from edgeprune.records import write_bytes
from edgeprune.targets.target import Fingerprint, targets
from edgeprune.training.lapp import Lapp, Settings
from edgeprune.training.lapp_network import with_bypasses
from edgeprune.training.lapp_units import channel_macs
from edgeprune.training.loop import Trained
from edgeprune.training.methods import Method
from edgeprune.training.thresholds import Cost

NETWORK = "resnet20"
LATENCY = 0.7
BYPASS = "none"
PRESSES = ("latency", "MACs", "uniform")
STAGES = ("measure", "train", "time")


def main() -> None:
    """Do one stage, or all."""
    parser = arguments(__doc__, (NETWORK,))
    parser.add_argument("--stage", choices=STAGES, help="all of them by default")
    parser.add_argument("--target", choices=sorted(targets()), default="openvino")
    options = parser.parse_args()
    stages = (options.stage,) if options.stage else STAGES
    run(options, "lapp-latency", SCALES[NETWORK, options.scale], partial(work, stages, options.target))


def work(stages: tuple[str, ...], target: str, study: Study) -> None:
    """Do the stages; each writes the table as far as it is known."""
    image = torch.zeros(CIFAR_INPUT)
    dense = with_bypasses(build(NETWORK, 0).eval(), image, BYPASS)  # the channel groups have LAPP's names
    blueprint = Blueprint(dense, trace(dense, image))
    if "measure" in stages:
        study.once("measured", lambda: measured(study, blueprint, target))
    if "train" in stages:
        for seed in range(study.scale.seeds):
            for pressed in PRESSES:
                trained(study, blueprint, pressed, seed)
    if "time" in stages:
        study.once("timed", lambda: timed(study, blueprint, target))
    study.write(table(study))


def measured(study: Study, blueprint: Blueprint, target: str) -> dict[str, Any]:
    """Fill the network's latency table, in the study's folder; return what says which device it is of."""
    with open_bench(target) as bench:
        found = fill(blueprint, bench, TableStore(study.out / "tables"), progress=study.progress)
        return {"target": target, "fingerprint": dict(bench.fingerprint()), "dense_ms": found.dense.engine_ms}


def trained(study: Study, blueprint: Blueprint, pressed: str, seed: int) -> None:
    """Train from scratch to the latency, and keep what came out as ONNX."""
    name = f"{pressed}-{seed}"
    settings = Settings(LATENCY, "channels", BYPASS, uniform=pressed == "uniform", unit=f"latency, by {pressed}")

    def method() -> Method:
        return Lapp(settings, torch.zeros(CIFAR_INPUT), _cost(study, blueprint, pressed))

    def finished(done: Trained, _: Method) -> Mapping[str, Any]:
        graph = trace(done.model.eval(), torch.zeros(CIFAR_INPUT))
        model = Blueprint(done.model, graph).at(WidthPlan.dense(graph))
        write_bytes(study.out / "cells" / f"{name}.onnx", model)
        return {"macs_left": graph.macs() / blueprint.graph.macs(), "predicted": done.history[-1]["left"]}

    study.cell(name, partial(build, NETWORK, seed), recipe(NETWORK, study.scale, seed), method, finished=finished)


def timed(study: Study, blueprint: Blueprint, target: str) -> dict[str, Any]:
    """Time all that came out beside the dense network; return cell -> share of the dense one's latency."""
    models = {"dense": blueprint.at(WidthPlan.dense(blueprint.graph))}
    for name in _cells(study):
        models[name] = (study.out / "cells" / f"{name}.onnx").read_bytes()
    with open_bench(target) as bench:
        found = bench.measure(models, LONG)
    for name, one in found.items():
        if not one.trusted:
            raise TableError(f"the latency of {name} can't be trusted: {one.reason}", remedy="stop what else runs here")
    return {name: one.median_ms for name, one in found.items()}


def table(study: Study) -> str:
    """Return what is known so far as Markdown."""
    known = {name: study.known(name) for name in ("measured", "timed", *_cells(study))}
    times, rows = known["timed"], []
    for pressed in PRESSES:
        names = [f"{pressed}-{seed}" for seed in range(study.scale.seeds)]
        cells = [known[name] for name in names]
        if not all(cells):
            continue
        predicted = ", ".join(percent(cell["predicted"]) for cell in cells)
        measured = ", ".join(percent(times[name] / times["dense"]) for name in names) if times else "not yet"
        macs = ", ".join(percent(cell["macs_left"]) for cell in cells)
        rows.append([pressed, predicted, measured, macs, each([cell["last"] for cell in cells])])
    head = ["pressed by", "latency, predicted", "latency, measured", "MACs left", "accuracy"]
    dense = f"\n\nThe dense network takes {times['dense']:.3f} ms." if times else ""
    return markdown(head, rows) + dense


def _cost(study: Study, blueprint: Blueprint, pressed: str) -> Cost:
    device = study.known("measured")
    if not device:
        raise SystemExit("there is no latency table yet: run --stage measure first")
    found = TableStore(study.out / "tables").load(Fingerprint(device["fingerprint"]))
    known = NetworkTable(found, signature_of(blueprint), blueprint.nodes)
    latency = LatencyCost(known, known.dense.engine_ms)
    return pressed_by(latency, channel_macs(blueprint.graph, blueprint.graph.macs())) if pressed == "MACs" else latency


def pressed_by(value: Cost, slopes: Cost) -> Cost:
    """Return a cost with the value of one and the slopes of another."""

    def cost(widths: Mapping[str, int]) -> tuple[float, Mapping[str, float]]:
        return value(widths)[0], slopes(widths)[1]

    return cost


def _cells(study: Study) -> list[str]:
    return [f"{pressed}-{seed}" for pressed in PRESSES for seed in range(study.scale.seeds)]


if __name__ == "__main__":
    sys.exit(main())
