"""Fill a latency table: which whole networks to build and time, so that few builds say most.

Layers are timed in place, inside whole networks, because layers timed alone don't add up. Every network gives one
point of every layer's staircase. The first networks take widths freely, to find the steps; the later ones take only
widths that the steps make worth having, since those are what a plan is made of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import numpy as np

from edgeprune.errors import TableError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import EngineNode
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.bench import Bench, LayerTimes, Reference
from edgeprune.latency.group import BenchGroup
from edgeprune.latency.predict import NetworkTable, anchor_of
from edgeprune.latency.rule import SURVEY, Rule
from edgeprune.latency.store import TableStore
from edgeprune.latency.table import NetworkRecord, Row
from edgeprune.latency.waiting import when_quiet
from edgeprune.progress import SILENT, Progress

FREE_NETWORKS = 5
STEPPED_NETWORKS = 9
TOTAL_NETWORKS = 1 + FREE_NETWORKS + STEPPED_NETWORKS

MOST_WIDTHS = 16
"""A group has no more widths to choose from than this."""

IMPLAUSIBLE = 0.12
"""A network that the fit to all networks misses by this share is timed once more."""

LAYERS_S = 1.0
"""For so long the layers of one network are timed."""


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
    doubted: bool = False,
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
        doubted: look also in a complete table for networks that do not fit the others, and time them again.
        progress: where to show it.

    Raises:
        TableError: the machine was too busy for the dense network's measurement to be trusted.
    """
    benches = bench if isinstance(bench, BenchGroup) else BenchGroup([bench])
    table = store.load(benches.first.fingerprint())
    network = signature_of(source)

    def known() -> NetworkTable:
        return NetworkTable(table, network, source.nodes)

    def numbered(number: int) -> Callable[[Bench], NetworkRecord | None]:
        plan = _plan(number, source.graph, known(), seed)
        if any(record.widths == plan.widths for record in known().records):
            return lambda one: None  # a small network has fewer plans than there are numbers
        return timing(plan)

    def timing(plan: WidthPlan) -> Callable[[Bench], NetworkRecord]:
        model, reference = source.at(plan), reference_of(known(), source)
        return lambda one: measure_network(source, plan, model, one, network, reference, progress)

    with progress.step("measuring the latency table", TOTAL_NETWORKS) as step:
        lacking = _lacking(source.graph, known(), seed)
        step.advance(TOTAL_NETWORKS - len(lacking))
        first = int(0 in lacking)  # the dense network comes first: it is what the others are timed beside
        for numbers in (lacking[:first], lacking[first:]):
            for record in benches.share([partial(numbered, number) for number in numbers], progress):
                if record is None:
                    step.advance()
                    continue
                table = store.add(table, record)
                step.advance(note=f"network {len(known().records)} of {TOTAL_NETWORKS}: {record.engine_ms:.3g} ms")
        again = implausible(known()) if lacking or doubted else []
        plans = [WidthPlan.from_scores(source.graph, {}, record.widths) for record in again]
        for record in benches.share([partial(timing, plan) for plan in plans], progress):
            table = store.add(table, record)
            step.advance(0, note=f"timed again, as it did not fit the others: {record.engine_ms:.3g} ms")
    return known()


def _lacking(graph: ChannelGraph, known: NetworkTable, seed: int) -> list[int]:
    """Return the numbers of the networks to measure: as many as the table lacks, and none that it has.

    Devices that share the work end it in another order than they began it, so that any may be missing after a kill.
    """
    there = [record.widths for record in known.records]
    free = [number for number in range(1 + FREE_NETWORKS) if _plan(number, graph, known, seed).widths not in there]
    missing = max(0, TOTAL_NETWORKS - len(there))
    stepped = min(STEPPED_NETWORKS, max(0, missing - len(free)))
    return [*free[:missing], *range(TOTAL_NETWORKS - stepped, TOTAL_NETWORKS)]


def implausible(known: NetworkTable) -> list[NetworkRecord]:
    """Return the records, at most four, that the fit to all misses by far and that were timed once; never the dense."""
    timed = [one.widths for one in known.table.records if one.network == known.network]
    off = {
        at: abs(known.predict(record.widths).ms / record.engine_ms - 1)
        for at, record in enumerate(known.records)
        if record is not known.dense and timed.count(record.widths) == 1
    }
    worst = sorted(off, key=lambda at: -off[at])[:4]
    return [known.records[at] for at in worst if off[at] > IMPLAUSIBLE]


def reference_of(known: NetworkTable, source: NetworkSource) -> Reference | None:
    """Return the dense network with its latency in the table, or None before it was measured."""
    dense = WidthPlan.dense(source.graph)
    found = next((record.engine_ms for record in known.records if record.widths == dense.widths), None)
    return None if found is None else Reference(source.at(dense), found)


def measure_network(
    source: NetworkSource,
    plan: WidthPlan,
    model: bytes,
    bench: Bench,
    network: str,
    reference: Reference | None,
    progress: Progress = SILENT,
) -> NetworkRecord:
    """Time one network, `model` at `plan`, end to end beside the dense one, and layer by layer in place.

    Raises:
        TableError: the machine was too busy for the measurement to be trusted.
    """
    times = time_networks(bench, {"network": model}, reference, rule=SURVEY, progress=progress)["network"]
    return record_of(times, plan, source.nodes, network)


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

    def busy(found: Mapping[str, LayerTimes]) -> str:
        return next((one.engine.reason for one in found.values() if not one.engine.trusted), "")

    times, reason = when_quiet(lambda: bench.layers(models, rule, LAYERS_S, reference, beside), busy, progress)
    if not reason:
        return times
    raise TableError(
        f"the measurement can't be trusted: {reason}",
        remedy="stop what else runs on the device (edgeprune doctor shows it), and run the same command again:"
        " what was timed is kept",
    )


def record_of(times: LayerTimes, plan: WidthPlan, nodes: Mapping[str, EngineNode], network: str) -> NetworkRecord:
    """Return what the table keeps of a network's times.

    The layers' times are shares of the whole engine's (`LayerTimes.factor` says why).
    """
    rows = []
    inserted = 0.0
    for found in times.shares_of(times.engine.median_ms):
        named = tuple(name for name in found.nodes if name in nodes)
        if not named:
            inserted += found.us
            continue
        op = "+".join(nodes[name].op for name in named)
        rows.append(Row(named, anchor_of(named, nodes).key(plan.widths, op), found.us))
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
    )


def _plan(number: int, graph: ChannelGraph, known: NetworkTable, seed: int) -> WidthPlan:
    """Return the plan of the numbered network: the dense one, then free widths, then widths on the steps.

    Each network has a level, spread evenly over the range, around which its groups' widths vary.
    """
    if number == 0:
        return WidthPlan.dense(graph)
    random = np.random.default_rng([seed, number])
    stepped = number > FREE_NETWORKS
    place, count = (number - FREE_NETWORKS, STEPPED_NETWORKS) if stepped else (number, FREE_NETWORKS)
    level = (place - 0.5) / count
    widths = {}
    for group in graph.cuttable:
        share = np.clip(level + random.uniform(-0.45, 0.45), 0.0, 1.0)
        choices = useful_widths(known, graph, group.name) if stepped else group.possible[group.possible > 0]
        widths[group.name] = int(choices[round(share * (len(choices) - 1))])
    return WidthPlan.from_scores(graph, {}, widths)


def useful_widths(known: NetworkTable, graph: ChannelGraph, name: str) -> np.ndarray:
    """Return the widths of a group that no larger width undercuts, ascending, the full one always among them.

    The cost is that of all layers that the group reaches, the other groups dense. Where more than `MOST_WIDTHS` are
    left, those are kept that lie evenly along the cost.
    """
    group = graph.group(name)
    widths = group.possible
    cost = group_cost(known, graph, name, widths)
    cheapest_above = np.minimum.accumulate(cost[::-1])[::-1]
    free = np.append(cost[:-1] < cheapest_above[1:] * 0.995, True)
    widths, cost = widths[free], cost[free]
    if len(widths) > MOST_WIDTHS:
        marks = np.linspace(cost[0], cost[-1], MOST_WIDTHS)
        nearest = np.unique([int(np.argmin(np.abs(cost - mark))) for mark in marks])
        widths = widths[np.union1d(nearest, [0, len(widths) - 1])]
    return np.asarray(widths)


def group_cost(known: NetworkTable, graph: ChannelGraph, name: str, widths: np.ndarray) -> np.ndarray:
    """Return the microseconds, at each of `widths`, of all rows that the group reaches; other groups are dense."""
    many = {group.name: np.array(group.channels) for group in graph} | {name: widths}
    total = np.zeros(len(widths))
    for row in known.rows_of(name):
        cin, cout = (axis.widths(many) for axis in row.axes)
        total += known.row_us(row, cin, cout, many)
    return total
