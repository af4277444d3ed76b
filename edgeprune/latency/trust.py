"""Is a stored table still true of this machine? A few of its networks are timed again, beside each other.

A table serves where its networks compare to each other as they did: how fast the machine is as a whole is measured
again in every run, and all times are scaled by that. So a machine that is slower as a whole is told and not refused, up
to a factor. One that is faster was disturbed when the table was measured, since what disturbs only ever adds time: the
table takes the shorter times over, and what does not fit the rest is timed again. Where the networks no longer compare
as they did, twice in a row, either the table was measured at a bad moment or the machine has changed: what is to be
used is then measured again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgeprune.errors import TableError
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.bench import Bench
from edgeprune.latency.group import BenchGroup
from edgeprune.latency.network import NetworkRecord
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import NetworkSource, fill, signature_of
from edgeprune.latency.rule import Rule
from edgeprune.latency.store import TableStore
from edgeprune.latency.table import LatencyTable
from edgeprune.latency.waiting import first_untrusted, measured_when_quiet
from edgeprune.progress import SILENT, Progress
from edgeprune.runtimes.registry import records
from edgeprune.targets.target import Fingerprint
from edgeprune.units import format_percent

CHECK_S = 30.0
"""On a quiet machine the check takes no longer than this, building the networks included, where one inference is under
a second."""

CHECK = Rule(warmup_s=0.2, rounds=8, rounds_max=8, retries=4)

SAME = 0.1
"""Times that differ by less than this are the same; two sessions of one quiet machine differ by up to 3 %."""

FACTOR_MAX = 2.0
"""A machine that is slower or faster than this as a whole runs in another state (power mode, heat) than the table's."""

_BUILDING = 1 / 3
_REQUESTED = ("runtime", "precision", "threads", "copies")

Status = Literal["matches", "slower", "faster", "differs", "stale", "missing"]


@dataclass(frozen=True)
class Trust:
    """What a check found.

    Attributes:
        status: `matches`; `slower` or `faster`: by one factor for all; `differs`: not by one; `stale`: measured
            with a version, device or setting that has changed since; `missing`: not measured.
        sentence: it in words, such as `matches (3 %)`.
        factor: time now over time in the table, all networks together; None where nothing was timed.
        networks: (time in the table, time now) of each, in ms.
    """

    status: Status
    sentence: str
    factor: float | None = None
    networks: tuple[tuple[float, float], ...] = ()

    @property
    def usable(self) -> bool:
        """Whether what is predicted from the table, scaled by the dense network's time now, can be trusted."""
        return self.status == "matches" or (
            self.status in ("slower", "faster")
            and self.factor is not None
            and 1 / FACTOR_MAX <= self.factor <= FACTOR_MAX
        )

    def to_json(self) -> dict[str, Any]:
        """Return the part of a document that tells of the check."""
        networks = [{"table": then, "now": now} for then, now in self.networks]
        return {"status": self.status, "sentence": self.sentence, "factor": self.factor, "networks_ms": networks}

    def required(self, store: TableStore, fingerprint: Fingerprint) -> Trust:
        """Return this where the table may be used.

        Raises:
            TableError: it may not.
        """
        if self.usable:
            return self
        raise TableError(
            f"the latency table can't be trusted: {self.sentence}",
            remedy=f"see what changed (edgeprune doctor), or measure again: move {store.folder(fingerprint)} away",
        )


def trusted_table(
    source: NetworkSource,
    bench: Bench | BenchGroup,
    store: TableStore,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[NetworkTable, Trust]:
    """Check what is stored of a network, and measure what is missing or no longer so.

    Args:
        source: the network.
        bench: where to measure; of a group, the first one checks.
        store: where the measurements are kept.
        seed: of the widths that are measured.
        progress: where to show it.

    Returns:
        The network's part of the table, and what the check had found.

    Raises:
        TableError: the machine runs in another state than the table's, or is too busy.
    """
    trust = vetted(source, bench.first if isinstance(bench, BenchGroup) else bench, store, progress)
    return fill(source, bench, store, seed=seed, progress=progress), trust


def vetted(source: NetworkSource, bench: Bench, store: TableStore, progress: Progress = SILENT) -> Trust:
    """Check what the store has of a network before it is used, and say what came of it.

    A table that differs is checked once more, since a neighbour may have disturbed the check; one that still differs,
    or whose times are more than twice those of now, is retired, for the caller to fill again.

    Raises:
        TableError: the machine runs in another state than the table's, or is too busy to tell.
    """
    with progress.step("checking the latency table"):
        found = check_table(source, bench, store, progress)
        if found.status == "differs":
            found = check_table(source, bench, store, progress)
    fingerprint, network = bench.fingerprint(), signature_of(source)
    retired = found.status == "differs" or (found.status == "faster" and not found.usable)
    if retired:
        store.retire(fingerprint, network, found.sentence)
    if retired or found.status in ("stale", "missing"):
        again = "again " if retired else ""
        progress.say(f"Latency table: {found.sentence}; it is measured {again}now.")
        return found
    if found.status == "faster" and found.factor is not None:
        store.rescale(fingerprint, network, found.factor, found.sentence)
        progress.say(f"Latency table: {found.sentence} than when it was measured; it is rescaled to the times of now.")
        return found
    progress.say(f"Latency table: {found.sentence}.")
    return found.required(store, fingerprint)


def check_table(source: NetworkSource, bench: Bench, store: TableStore, progress: Progress = SILENT) -> Trust:
    """Time a few networks of the stored table again, and compare; a busy machine is waited for, as in a measurement.

    Raises:
        TableError: the machine stayed too busy to tell.
    """
    fingerprint, network = bench.fingerprint(), signature_of(source)
    measured = store.load(fingerprint).of(network)
    if not measured:
        return _without_table(fingerprint, store, network)
    chosen = chosen_networks(measured)
    models = {
        f"network {number}": source.at(WidthPlan.from_scores(source.graph, {}, record.widths))
        for number, record in enumerate(chosen)
    }
    found = list(measured_when_quiet(bench, models, CHECK, progress=progress).values())
    doubtful = first_untrusted(found)
    if doubtful is not None:
        raise TableError(f"the latency table can't be checked: {doubtful.reason}", remedy=doubtful.remedy)
    return compared([(record.engine_ms, one.median_ms) for record, one in zip(chosen, found, strict=True)])


def compared(networks: Sequence[tuple[float, float]]) -> Trust:
    """Say what (time in the table, time now) of some networks, in ms, tell of the table."""
    ratios = [now / then for then, now in networks]
    factor = math.exp(statistics.fmean(map(math.log, ratios)))
    off = max(abs(ratio - 1) for ratio in ratios)
    uneven = max(abs(ratio / factor - 1) for ratio in ratios)
    status: Status
    if off <= SAME:
        status, sentence = "matches", f"matches ({format_percent(off)})"
    elif uneven > SAME:
        status = "differs"
        sentence = f"differs: its networks take {min(ratios):.2g}x to {max(ratios):.2g}x of their times in the table"
    else:
        status = "slower" if factor > 1 else "faster"
        sentence = f"this machine is {max(factor, 1 / factor):.2g}x {status}"
    return Trust(status, sentence, factor, tuple(networks))


def chosen_networks(records: Sequence[NetworkRecord]) -> list[NetworkRecord]:
    """Return the slowest, the fastest and the middle network, as many of them as the time allows."""
    ordered = sorted(records, key=lambda record: -record.engine_ms)
    spread = [ordered[0], ordered[-1], ordered[len(ordered) // 2]]
    distinct = {id(record): record for record in spread}.values()
    left_s = CHECK_S * (1 - _BUILDING)
    chosen: list[NetworkRecord] = []
    for record in distinct:
        left_s -= seconds_for(record.engine_ms)
        if left_s >= 0 or not chosen:
            chosen.append(record)
    return chosen


def seconds_for(ms: float) -> float:
    """Return how long the check takes for a network of `ms`, at most."""
    round_s = max(CHECK.round_s, CHECK.samples_min * ms / 1000)
    return 5 * CHECK.warmup_s + (CHECK.rounds_max + CHECK.retries) * round_s


def _without_table(fingerprint: Fingerprint, store: TableStore, network: str) -> Trust:
    """Say that there is no table, or that there is one of something that is no longer so."""
    found = [store.load(other) for other in store.fingerprints() if _same_request(other, fingerprint)]
    with_network = [table for table in found if table.of(network)]
    if not with_network:
        return Trust("missing", "missing: this network was not measured on this device with these settings")

    def changes(table: LatencyTable) -> dict[str, tuple[str, str]]:
        return table.fingerprint.differences(fingerprint)

    nearest = changes(min(with_network, key=lambda table: len(changes(table))))
    said = [_change(name, then, now, fingerprint) for name, (then, now) in sorted(nearest.items(), key=_versions_first)]
    return Trust("stale", f"stale: {'; '.join(said)}")


def _same_request(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(one.get(name) == other.get(name) for name in _REQUESTED)


def _versions_first(change: tuple[str, tuple[str, str]]) -> bool:
    return change[0] != "runtime_version"


def _change(name: str, then: str, now: str, fingerprint: Fingerprint) -> str:
    if name == "runtime_version":
        record = records().get(fingerprint["runtime"])
        return f"{record.title if record else fingerprint['runtime']} {then}, now {now}"
    return f"{name.replace('_', ' ')} {then or 'unknown'}, now {now or 'unknown'}"
