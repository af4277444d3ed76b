"""What every plan starts with: the traced network's layers measured, its channels scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.subject import Subject
from edgeprune.budget.amounts import limits
from edgeprune.budget.choice import Choice
from edgeprune.errors import MissingError, TableError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.job import Job
from edgeprune.latency.absent import absence_of
from edgeprune.latency.bench import Bench
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill, signature_of
from edgeprune.latency.rule import LONG
from edgeprune.latency.store import TableStore
from edgeprune.latency.trust import Trust, trusted_table
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.importance import scores as importance
from edgeprune.scoring import values_of
from edgeprune.targets.target import find_target
from edgeprune.tracing import Stopwatch, Traced, traced
from edgeprune.units import LatencyBudget

CALIBRATION_IMAGES = 512
"""Training images that channels are scored on, and that what is left is refitted to."""


@dataclass(eq=False)
class Prepared:
    """A network on a target, ready to be planned for.

    Attributes:
        job: what was asked for.
        subject: the network and its data.
        graph: its channel groups.
        blueprint: the network as ONNX at any plan.
        bench: the device.
        store: where measurements are kept.
        table: what the layers cost.
        dense: the dense network, measured now; None where the table's word for it is enough.
        trust: what the check of the stored table found, before anything was measured; None where it was not checked.
        choice: what each width is worth.
        criterion: what scored the channels for it.
        stopwatch: how long the steps so far took.
    """

    job: Job
    subject: Subject
    graph: ChannelGraph
    blueprint: Blueprint
    bench: Bench
    store: TableStore
    table: NetworkTable
    dense: Measurement | None
    trust: Trust | None
    choice: Choice
    criterion: str
    stopwatch: Stopwatch

    @property
    def budget(self) -> LatencyBudget:
        """The latency that was asked for, where there is one."""
        assert self.job.latency is not None, "only an export has one"
        return self.job.latency

    @property
    def absence(self) -> MissingError | None:
        """Why the device can't be reached, or None; if it can't, everything is predicted from its earlier table."""
        return absence_of(self.bench)

    @property
    def dense_ms(self) -> float:
        """Latency of the dense network: as measured now, else as the table says."""
        return self.table.dense.engine_ms if self.dense is None else self.dense.median_ms

    @property
    def drift(self) -> float:
        """Factor from the table's times to those of now, by the dense network's; 1 if it was not measured now."""
        return self.dense_ms / self.table.dense.engine_ms

    def table_us(self, budget: LatencyBudget) -> float:
        """Return a budget as the table counts it: in microseconds, the dense network as fast as the table says."""
        return budget.of(self.dense_ms) / self.drift * 1000

    def now_ms(self, table_us: float) -> float:
        """Return microseconds of the table as milliseconds of the device as it is now."""
        return table_us / 1000 * self.drift


@dataclass(frozen=True)
class Baseline:
    """What everything in one run is compared with.

    Attributes:
        dense: how the dense network was measured; None where the device can't be reached.
        dense_ms: what it takes.
        budget_ms: what the cut network may take.
        accuracy: top-1 in [0, 1] of the dense network; None without data.
    """

    dense: Measurement | None
    dense_ms: float
    budget_ms: float
    accuracy: float | None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Baseline:
        """Return what `to_json` told."""
        dense = content["dense"]
        return cls(**{**content, "dense": None if dense is None else Measurement.from_json(dense)})

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {**self.__dict__, "dense": None if self.dense is None else self.dense.to_json()}


@contextmanager
def prepare(
    job: Job,
    progress: Progress,
    subject: Subject | None = None,
    *,
    scores: Mapping[str, np.ndarray] | None = None,
    measure: bool = True,
    without_device: bool = False,
    inspect: Callable[[ChannelGraph], object] | None = None,
) -> Iterator[Prepared]:
    """Load, trace, measure and score; the device is let go at the end.

    Args:
        job: what was asked for.
        progress: where to show it.
        subject: the network, where an earlier call has found it for the same job in another precision.
        scores: the channels' scores, likewise.
        measure: check the stored table, and measure the dense network now; else the table's word is enough.
        without_device: go on by the earlier table of a device that can't be reached.
        inspect: called with the network's groups before anything is measured; what it raises ends the run.

    Raises:
        EdgePruneError: bad input, a missing runtime or device, a machine too busy to measure on.
    """
    with traced(job, progress, subject, inspect, without_device=without_device) as found:
        subject, blueprint, stopwatch = found.subject, found.blueprint, found.stopwatch
        graph = blueprint.graph
        store = TableStore()
        table, trust, dense = _measured(job, found, store, progress, measure)
        bench = found.benches.first
        stopwatch.done("measure")
        with progress.step("scoring channels"):
            batches = subject.data.calibration(CALIBRATION_IMAGES, job.seed) if subject.data is not None else None
            scores = scores or importance(subject.model, graph, found.criterion, batches, subject.importances)
        choice = Choice(
            graph,
            scores,
            values_of(job, subject, graph, found.criterion, scores, batches, store, progress),
            job.align or find_target(job.target).align,
            limits(job.max_params, job.max_size, bench.settings.precision),
            job.strategy,
        )
        stopwatch.done("score")
        yield Prepared(
            job=job,
            subject=subject,
            graph=graph,
            blueprint=blueprint,
            bench=bench,
            store=store,
            table=table,
            dense=dense,
            trust=trust,
            choice=choice,
            criterion=found.criterion,
            stopwatch=stopwatch,
        )


def _measured(
    job: Job, found: Traced, store: TableStore, progress: Progress, measure: bool
) -> tuple[NetworkTable, Trust | None, Measurement | None]:
    """Return the network's table, what its check found, and the dense network measured now; None for what was not done.

    Raises:
        MissingError: the device can't be reached, and its earlier table has nothing of this network.
        TableError: the device was too busy, or is not as it was.
    """
    bench, blueprint = found.benches.first, found.blueprint
    absence = absence_of(bench)
    if absence:
        table = NetworkTable(store.load(bench.fingerprint()), signature_of(blueprint), blueprint.nodes)
        if not table.records:
            raise absence
        progress.say(
            f"{absence.message}. It is planned by the {len(table.records)} networks that were measured there earlier:"
            " PREDICTED, NOT VERIFIED."
        )
        return table, None, None
    if not measure:
        return fill(blueprint, found.benches, store, seed=job.seed, progress=progress), None, None
    table, trust = trusted_table(blueprint, found.benches, store, seed=job.seed, progress=progress)
    return table, trust, measured_now(found.benches.first, blueprint, progress)


def measured_now(bench: Bench, blueprint: Blueprint, progress: Progress = SILENT) -> Measurement:
    """Measure the dense network end to end.

    Raises:
        TableError: the device was too busy.
    """
    model = blueprint.at(WidthPlan.dense(blueprint.graph))
    with progress.step("measuring the dense network"):
        dense = measured_when_quiet(bench, {"dense": model}, LONG, progress=progress)["dense"]
    if not dense.trusted:
        raise TableError(
            f"the dense network's latency can't be trusted: {dense.reason}",
            remedy=dense.remedy,
        )
    return dense
