"""Fill a latency table: build whole networks, time them, and keep what came of it.

Layers are timed in place, inside whole networks, because layers timed alone don't add up. Which networks these are is
decided in `latency/sampling.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from edgeprune.errors import TableError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import EngineNode
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.bench import Bench, LayerTimes, Reference
from edgeprune.latency.group import BenchGroup
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.network import NetworkRecord, Row
from edgeprune.latency.predict import NetworkTable, anchor_of
from edgeprune.latency.rule import GLANCE, SETTLING, SURVEY, Rule
from edgeprune.latency.sampling import DENSE, TOTAL_NETWORKS, lacking_numbers, numbered_plan, numbers_of
from edgeprune.latency.store import TableStore
from edgeprune.latency.waiting import first_untrusted, measured_when_quiet, when_quiet
from edgeprune.progress import SILENT, Progress, Step

ABREAST_BYTES = 512e6
"""Models of so many bytes together are open at once, to be timed side by side."""

LAYERS_S = 1.0
"""For so long the layers of one network are timed."""

_Abreast = Sequence[tuple[NetworkRecord, bytes]]
"""Networks that are timed side by side: what is known of each, and the network as ONNX."""


class NetworkSource(Protocol):
    """A network that can be had as ONNX at any width plan."""

    graph: ChannelGraph

    @property
    def nodes(self) -> Mapping[str, EngineNode]:
        """Nodes of the exported dense network by name."""

    def at(self, plan: WidthPlan) -> bytes:
        """Return the network at `plan` as a serialized ONNX model."""


def signature_of(source: NetworkSource) -> str:
    """Return a hash of the network's nodes, their sizes, how these follow from the groups, and the groups' sizes."""
    nodes = [
        [n.name, n.op, n.detail, n.size, n.cin.fixed, dict(n.cin.parts), n.cout.fixed, dict(n.cout.parts)]
        for n in source.nodes.values()
    ]
    groups = {group.name: group.channels for group in source.graph}
    return hashlib.sha256(json.dumps([nodes, groups]).encode()).hexdigest()[:16]


def fill(
    source: NetworkSource,
    bench: Bench | BenchGroup,
    store: TableStore,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> NetworkTable:
    """Measure what the table lacks for this network, and return the network's part of it.

    What was measured before, by whatever run, is used; each network is on disk as soon as it was timed. The benches of
    a group share the work.

    Args:
        source: the network.
        bench: where to measure.
        store: where the measurements are kept.
        seed: of the widths that are measured.
        progress: where to show it.

    Raises:
        TableError: the machine stayed too busy for a measurement to be trusted.
    """
    benches = bench if isinstance(bench, BenchGroup) else BenchGroup([bench])
    with progress.step("measuring the latency table", TOTAL_NETWORKS) as step:
        filling = _Filling(source, benches, store, seed, progress, step)
        first = [] if _dense_ms(filling.known, source) else [DENSE]
        filling.measure(first, TOTAL_NETWORKS)  # the others are timed beside it, and chosen by what is known of it
        numbers = numbers_of(filling.known)
        lacking = lacking_numbers(numbers, source.graph, filling.known, seed)
        step.advance(TOTAL_NETWORKS - len(first) - len(lacking))
        filling.measure(lacking, len(numbers))
        if not all(record.settled for record in filling.known.records):
            filling.retime()
    return filling.known


class _Filling:
    """A table while it is being filled."""

    def __init__(
        self,
        source: NetworkSource,
        benches: BenchGroup,
        store: TableStore,
        seed: int,
        progress: Progress,
        step: Step,
    ) -> None:
        self._source = source
        self._benches = benches
        self._store = store
        self._seed = seed
        self._progress = progress
        self._step = step
        self._network = signature_of(source)
        self._table = store.load(benches.first.fingerprint())

    @property
    def known(self) -> NetworkTable:
        return NetworkTable(self._table, self._network, self._source.nodes)

    def measure(self, numbers: Sequence[int], of: int) -> None:
        """Time the numbered networks, of which there are to be `of` in the end; keep each as soon as it was timed."""
        for record in self._benches.share([partial(self._numbered, number) for number in numbers], self._progress):
            if record is None:
                self._step.advance()
                continue
            self._table = self._store.add(self._table, record)
            self._step.advance(note=f"network {len(self.known.records)} of {of}: {record.engine_ms:.3g} ms")

    def retime(self) -> None:
        """Time the whole networks once more, side by side in one session, and believe these times.

        What is timed one after the other differs also by what the machine's neighbours do meanwhile, and that slows
        large networks more than small ones, so that the dense one timed beside them does not tell it: the ratio of two
        networks of 1.3 and 2.9 ms, from windows of 6 s, scattered by 1.1 % within two and a half minutes.
        """
        if not self._benches.first.opens_quickly:
            return
        dense = self.known.dense
        others = [record for record in self.known.records if record is not dense]
        self._step.advance(0, note=f"all {len(others) + 1} networks side by side")
        first, *rest = _batches([(record, self._model(record.widths)) for record in others])
        self._retime([[(dense, self._model(dense.widths)), *first]])  # which sets the scale of the table
        self._retime(rest, beside_dense=True)

    def _retime(self, batches: Sequence[_Abreast], beside_dense: bool = False) -> None:
        works = [partial(self._retiming, batch, beside_dense) for batch in batches]
        for records in self._benches.share(works, self._progress):
            self._table = self._store.add(self._table, *records)

    def _model(self, widths: Mapping[str, int]) -> bytes:
        return self._source.at(WidthPlan.from_scores(self._source.graph, {}, widths))

    def _retiming(self, batch: _Abreast, beside_dense: bool) -> Callable[[Bench], list[NetworkRecord]]:
        reference = reference_of(self.known, self._source) if beside_dense else None
        progress = self._progress
        models = {str(number): model for number, (_, model) in enumerate(batch)}

        def retime(bench: Bench) -> list[NetworkRecord]:
            times = measured_when_quiet(bench, models, SETTLING, reference, progress)
            return [
                retimed(record, engine) for (record, _), engine in zip(batch, required(times).values(), strict=True)
            ]

        return retime

    def _numbered(self, number: int) -> Callable[[Bench], NetworkRecord | None]:
        plan = numbered_plan(number, self._source.graph, self.known, self._seed)
        if any(record.widths == plan.widths for record in self.known.records):
            return lambda bench: None  # a small network has fewer plans than there are numbers
        return self._timing(plan)

    def _timing(self, plan: WidthPlan) -> Callable[[Bench], NetworkRecord]:
        source, network, progress = self._source, self._network, self._progress
        # Where all are timed side by side in the end, a network's own time is but a first one.
        alone = self._benches.first.opens_quickly
        rule, reference = (GLANCE, None) if alone else (SURVEY, reference_of(self.known, source))
        model = source.at(plan)

        def measure(bench: Bench) -> NetworkRecord:
            times = time_networks(bench, {"network": model}, reference, rule=rule, progress=progress)["network"]
            return record_of(times, plan, source.nodes, network)

        return measure


def _batches(models: _Abreast) -> list[_Abreast]:
    """Return models with their records in as few batches as `ABREAST_BYTES` allow, one at least."""
    total = sum(len(model) for _, model in models)
    count = max(1, min(len(models), math.ceil(total / ABREAST_BYTES)))
    return [list(models[at::count]) for at in range(count)]


def retimed(record: NetworkRecord, engine: Measurement) -> NetworkRecord:
    """Return a record with another time of the whole engine, of a session in which networks took turns."""
    return replace(
        record.scaled(engine.median_ms / record.engine_ms),
        engine_ms=engine.median_ms,
        spread=engine.spread,
        p90_ms=engine.p90_ms,
        min_ms=engine.min_ms,
        samples=len(engine.samples_ms),
        rounds=engine.rounds,
        samples_ms=engine.samples_ms,
        settled=True,
    )


def reference_of(known: NetworkTable, source: NetworkSource) -> Reference | None:
    """Return the dense network with its latency in the table, or None before it was measured."""
    ms = _dense_ms(known, source)
    return None if ms is None else Reference(source.at(WidthPlan.dense(source.graph)), ms)


def _dense_ms(known: NetworkTable, source: NetworkSource) -> float | None:
    dense = WidthPlan.dense(source.graph).widths
    return next((record.engine_ms for record in known.records if record.widths == dense), None)


def time_networks(
    bench: Bench,
    models: Mapping[str, bytes],
    reference: Reference | None,
    *,
    beside: Mapping[str, bytes] | None = None,
    rule: Rule | None = None,
    progress: Progress = SILENT,
) -> dict[str, LayerTimes]:
    """Time networks as `Bench.layers` does; where the machine is too busy, wait and try again.

    Raises:
        TableError: after a minute the machine was still too busy for the measurement to be trusted.
    """

    def engines(found: Mapping[str, LayerTimes]) -> list[Measurement]:
        return [one.engine for one in found.values()]

    times, reason = when_quiet(lambda: bench.layers(models, rule, LAYERS_S, reference, beside), engines, progress)
    _require(engines(times), reason)
    return times


def required(found: Mapping[str, Measurement]) -> Mapping[str, Measurement]:
    """Return measurements where all of them can be trusted.

    Raises:
        TableError: one can't.
    """
    _require(found.values())
    return found


def _require(found: Iterable[Measurement], reason: str = "") -> None:
    """Refuse measurements one of which can't be trusted, for its own reason or for that of having waited in vain."""
    doubtful = first_untrusted(found)
    if doubtful is not None:
        raise TableError(
            f"the measurement can't be trusted: {reason or doubtful.reason}",
            remedy=f"{doubtful.remedy}: what was timed is kept",
        )


def record_of(times: LayerTimes, plan: WidthPlan, nodes: Mapping[str, EngineNode], network: str) -> NetworkRecord:
    """Return what the table keeps of a network's times.

    The layers' times are shares of the whole engine's (`LayerTimes.factor` says why). What the runtime inserted behind
    a layer, such as a change of layout, is part of that layer's time: whether it is needed hangs on its widths.
    """
    us: dict[tuple[str, ...], float] = {}
    for found in times.shares_of(times.engine.median_ms):
        named = tuple(name for name in found.serves if name in nodes)
        us[named] = us.get(named, 0.0) + found.us
    inserted = us.pop((), 0.0)
    rows = []
    for named, one in us.items():
        op = "+".join(nodes[name].op for name in named)
        rows.append(Row(named, anchor_of(named, nodes).key(plan.widths, op), one))
    engine = times.engine
    return NetworkRecord(
        network,
        dict(plan.widths),
        engine.median_ms,
        engine.spread,
        tuple(rows),
        inserted,
        engine.p90_ms,
        engine.min_ms,
        len(engine.samples_ms),
        engine.rounds,
        samples_ms=engine.samples_ms,
    )
