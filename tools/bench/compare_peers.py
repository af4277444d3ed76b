"""Compare with Torch-Pruning, and with plainer strategies of our own, at the same latency as measured on the engine.

    pip install torch-pruning==1.6.1
    python tools/bench/compare_peers.py models.py:resnet56 --weights resnet56.th --data cifar10_small.npz \
        --input 1x3x32x32 --mean .485,.456,.406 --std .229,.224,.225 --keep conv1,*.conv2,linear

Every network is cut until its engine takes the budget: ours by the closed loop of `edgeprune export`, with each
--strategy; a peer's by searching the smallest ratio whose own engine is measured within the budget, to 2 % of it where
its steps allow that. In the end all networks of a budget are timed once more, interleaved in one run: that is the
latency in the table.

Accuracy without training is top-1 on the validation images: a peer's with BatchNorm's statistics measured again on the
same 512 training images from which ours are scored and refitted (both are shown for ours). With --epochs every network
is trained further in the same way, by `edgeprune`'s own recovery, at each of --seeds.

--keep names what a peer must not touch because its network does not run otherwise (zero-padded shortcuts here).

What was found is kept in --out, a line a network: a killed run goes on, and a second run with --epochs trains what a
first one has cut, without timing anything. A machine that is too busy ends the run, and what it spoiled is not kept.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from network_options import network_of, parser_of, target_name
from peer_pruning import PEERS, Peer, ratio_at
from torch import Tensor, nn

from edgeprune.artifacts.onnx import export_onnx
from edgeprune.artifacts.subject import Subject
from edgeprune.budget.strategies import STRATEGIES
from edgeprune.decision import decide
from edgeprune.errors import BudgetError, OverBudgetError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.job import Job
from edgeprune.latency.bench import Reference
from edgeprune.latency.profile import required
from edgeprune.latency.rule import LONG
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.prepare import CALIBRATION_IMAGES, Prepared, prepare
from edgeprune.progress import SILENT
from edgeprune.pruning.compensate import compensate
from edgeprune.pruning.fuse import fuse
from edgeprune.pruning.slim import slim
from edgeprune.pruning.statistics import reestimate
from edgeprune.records import append_lines, read_lines
from edgeprune.tracing import subject_of
from edgeprune.training.loop import Recipe, evaluate, recover
from edgeprune.units import LatencyBudget, parse_latencies

DENSE = "dense"


def main() -> None:
    """Cut, time, train what is lacking, and print the table."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    study = Study(options)
    missing = [budget for budget in options.budgets if study.lacks(budget)]
    if missing:
        with prepare(study.job, SILENT, study.subject) as ready:
            for budget in missing:
                study.cut_and_time(ready, budget)
    for budget in options.budgets:
        study.train(budget)
    print(study.table())


def _arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--target", type=target_name, default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budgets", type=parse_latencies, default="70%,50%,35%")
    parser.add_argument("--keep", type=lambda text: text.split(","), default=[])
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    return parser.parse_args()


class Study:
    """One network, at some budgets, by every method."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.job = Job(**network_of(options), target=options.target, threads=options.threads)
        self.subject: Subject = subject_of(self.job)
        assert self.subject.data is not None
        self.data = self.subject.data
        (self.example,) = self.subject.example_inputs
        self.times_ms: dict[tuple[Peer, float], float] = {}
        name = options.model.rpartition(":")[2]
        self.path: Path = options.out / f"{name}-{options.target}-{options.threads}.jsonl"

    @cached_property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """The images that everything is scored, refitted and re-estimated on, with their labels."""
        return list(self.data.calibration(CALIBRATION_IMAGES, 0))

    def found(self, budget: LatencyBudget, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of one kind at a budget."""
        for line in read_lines(self.path):
            if line["budget"] == str(budget) and line["kind"] == kind:
                yield line

    def lacks(self, budget: LatencyBudget) -> bool:
        """Whether a budget's networks were not all cut and timed together."""
        return not list(self.found(budget, "timed"))

    def note(self, budget: LatencyBudget, kind: str, **content: Any) -> None:
        """Keep a line."""
        append_lines(self.path, [{"budget": str(budget), "kind": kind, **content}])

    def cut_and_time(self, ready: Prepared, budget: LatencyBudget) -> None:
        """Cut by every method to the budget, then time all of them beside each other and the dense network."""
        budget_ms = budget.of(ready.dense_ms)
        known = {line["method"] for line in self.found(budget, "cut")}
        for strategy in STRATEGIES:
            if strategy not in known:
                self.note(budget, "cut", method=strategy, **self._own(ready, strategy, budget_ms))
        for peer in PEERS:
            if peer.name not in known:
                self.note(budget, "cut", method=peer.name, **self._peer(ready, peer, budget_ms))
        lines = [line for line in self.found(budget, "cut") if line.get("reached", True)]
        models = {line["method"]: self._onnx(self.network(line)) for line in lines}
        models[DENSE] = ready.blueprint.at(WidthPlan.dense(ready.graph))
        times = required(measured_when_quiet(ready.bench, models, LONG))
        dense_ms = times[DENSE].median_ms
        self.note(
            budget,
            "timed",
            dense_ms=dense_ms,
            share={name: one.median_ms / dense_ms for name, one in times.items() if name != DENSE},
        )

    def _own(self, ready: Prepared, strategy: str, budget_ms: float) -> dict[str, Any]:
        choice = replace(ready.choice, strategy=strategy)
        try:
            chosen = decide(replace(ready, job=replace(ready.job, strategy=strategy), choice=choice), budget_ms, SILENT)
        except (BudgetError, OverBudgetError) as error:
            return {"reached": False, "why": str(error)}
        return {"plan": chosen.plan, "rounds": chosen.rounds}

    def _peer(self, ready: Prepared, peer: Peer, budget_ms: float) -> dict[str, Any]:
        reference = Reference(ready.blueprint.at(WidthPlan.dense(ready.graph)), ready.dense_ms)

        def measured_ms(ratio: float) -> float:
            if (peer, ratio) not in self.times_ms:
                model = {"network": self._onnx(self._cut_by(peer, ratio))}
                found = required(measured_when_quiet(ready.bench, model, LONG, reference))
                self.times_ms[peer, ratio] = found["network"].median_ms
            return self.times_ms[peer, ratio]

        ratio = ratio_at(budget_ms, measured_ms)
        return {"reached": False} if ratio is None else {"ratio": ratio}

    def _cut_by(self, peer: Peer, ratio: float) -> nn.Module:
        return peer.cut(self.subject.model, self.example, ratio, self.options.keep, self.batches)

    def network(self, line: dict[str, Any], *, refitted: bool = False) -> nn.Module:
        """Return the network of a cut, its BatchNorms re-estimated or, if it is ours, its layers refitted."""
        dense = self.subject.model
        if "ratio" in line:
            peer = next(one for one in PEERS if one.name == line["method"])
            small = self._cut_by(peer, line["ratio"])
        else:
            plan = WidthPlan.from_json(trace(dense, self.subject.example_inputs), line["plan"])
            small = slim(dense, plan, check=False)
            if refitted:
                compensate(small, dense, plan, [images for images, _ in self.batches])
                return small
        reestimate(small, self.batches)
        return small

    def _onnx(self, model: nn.Module) -> bytes:
        graph = trace(model, self.example)
        return bytes(export_onnx(fuse(model, graph.foldable), (self.example,)).SerializeToString())

    def train(self, budget: LatencyBudget) -> None:
        """Evaluate every network of a budget as it was cut, and trained if that was asked for."""
        for line in self.found(budget, "cut"):
            if not line.get("reached", True):
                continue
            known = [
                (one["epochs"], one["seed"]) for one in self.found(budget, "score") if one["method"] == line["method"]
            ]
            if (0, 0) not in known:
                small = self.network(line)
                graph = trace(small, self.example)
                scores = {"re_estimated": evaluate(small, self.data), "macs": graph.macs(), "params": graph.params()}
                if "plan" in line:
                    scores["refitted"] = evaluate(self.network(line, refitted=True), self.data)
                self.note(budget, "score", method=line["method"], epochs=0, seed=0, **scores)
            for seed in range(self.options.seeds if self.options.epochs else 0):
                if (self.options.epochs, seed) not in known:
                    recipe = Recipe(epochs=self.options.epochs, seed=seed)
                    start = self.network(line, refitted=True)
                    trained = recover(start, self.subject.model, self.data, recipe)
                    top1 = evaluate(trained, self.data)
                    self.note(budget, "score", method=line["method"], epochs=recipe.epochs, seed=seed, top1=top1)

    def table(self) -> str:
        """Return all that is known, as Markdown."""
        dense = trace(self.subject.model, self.subject.example_inputs)
        accuracy = evaluate(self.subject.model, self.data)
        epochs = self.options.epochs
        trained = [f"{epochs} epochs, {self.options.seeds} seeds"] if epochs else []
        head = ["budget", "method", "measured", "MACs", "parameters", "re-estimated", "refitted", *trained]
        title = f"{self.path.stem}: dense {accuracy:.1%}, {self.data.description}"
        rows = [title, "", _row(head), _row(["---"] * len(head))]
        for budget in self.options.budgets:
            share = next(self.found(budget, "timed"))["share"]
            for line in self.found(budget, "cut"):
                name = line["method"]
                if not line.get("reached", True):
                    rows.append(_row([str(budget), name, "not reached", *[""] * (len(head) - 3)]))
                    continue
                scores = [one for one in self.found(budget, "score") if one["method"] == name]
                cut = next(one for one in scores if not one["epochs"])
                after = [one["top1"] for one in scores if one["epochs"] == epochs] if epochs else []
                cells = [str(budget), name, f"{share[name]:.1%}"]
                cells += [f"{cut['macs'] / dense.macs():.0%}", f"{cut['params'] / dense.params():.0%}"]
                cells += [f"{cut['re_estimated']:.1%}", f"{cut['refitted']:.1%}" if "refitted" in cut else ""]
                rows.append(_row([*cells, *([_spread(after)] if epochs else [])]))
        return "\n".join(rows)


def _spread(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.1%}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.1%} to {max(values):.1%})"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
