"""What every plan starts with: the traced network's layers measured, its channels scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill, signature_of
from edgeprune.latency.rule import LONG
from edgeprune.latency.samples import Measurement
from edgeprune.latency.store import TableStore
from edgeprune.latency.trust import Trust, trusted_table
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.importance import scores as importance
from edgeprune.scoring import values_of
from edgeprune.targets.target import find_target
from edgeprune.tracing import Traced, traced
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
        steps: name and seconds of every step so far.
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
    steps: list[dict[str, Any]] = field(default_factory=list)

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

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long a step takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.steps.append({"name": name, "seconds": round(time.perf_counter() - started, 3)})


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
        subject, blueprint, steps = found.subject, found.blueprint, found.steps
        graph = blueprint.graph
        store = TableStore()
        table, trust, dense = _measured(job, found, store, progress, measure)
        bench = found.benches.first
        steps.done("measure")
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
        steps.done("score")
        yield Prepared(
            job, subject, graph, blueprint, bench, store, table, dense, trust, choice, found.criterion, steps.rows
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
