"""What comes out of repetitions: a number, how well it is known, and whether it can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from edgeprune.latency.rule import ALONE_LEAST, FASTEST, OTHERS_MAX, WAITING_MAX, Rule

_GROUPS = 8

SAMPLES_KEPT = 10_000
"""Of an inference of some microseconds there are more samples than anyone reads, too many to send over a wire."""


@dataclass(frozen=True)
class Measurement:
    """What came out.

    Attributes:
        median_ms: median over the samples that count, see `undisturbed`; the number that is reported.
        p90_ms: 90th percentile over all samples of the quiet rounds.
        min_ms: fastest of them.
        spread: half the range between the quarters of those samples, over `median_ms`.
        error: relative standard error of `median_ms`; beside a reference, of the ratio to that one's.
        undisturbed: share of the samples that count: 1 on a quiet device.
        samples_ms: the samples of the quiet rounds, in order; of more than `SAMPLES_KEPT`, so many at even distances.
        rounds: rounds that were run, busy ones included.
        cpu_ratio: wall time over processor time of the calling thread in the rounds that count. Near 1 for a quiet
            single-threaded call; says little where the call waits for threads of its own.
        switches: involuntary switches of the calling thread in those rounds.
        trusted: enough rounds were quiet.
        reason: why not, if not.
        lasting: the reason does not pass by itself, as load does: clocks that are free to move.
    """

    median_ms: float
    p90_ms: float
    min_ms: float
    spread: float
    samples_ms: tuple[float, ...] = field(repr=False)
    error: float
    undisturbed: float
    rounds: int
    cpu_ratio: float
    switches: int
    trusted: bool
    reason: str = ""
    lasting: bool = False

    @property
    def remedy(self) -> str:
        """What makes it trusted the next time."""
        if self.lasting:
            return "mend that (edgeprune doctor shows how) and try again"
        return "stop what else runs on the device (edgeprune doctor shows it) and try again"

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data that `from_json` reads back."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**data, "samples_ms": list(self.samples_ms)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Rebuild a measurement from `to_json` data."""
        return cls(**{**data, "samples_ms": tuple(data["samples_ms"])})

    def repetition(self, rule: Rule) -> str:
        """Say by which rule this was measured, and how often it came to that."""
        samples = f" of {len(self.samples_ms)} samples" if self.samples_ms else " of the samples"
        return f"{rule.sentence()} Here: {self.rounds} rounds, {self.undisturbed:.0%}{samples} undisturbed."

    def rebased(self, reference: Measurement, reference_ms: float) -> Measurement:
        """Return this measurement as it would be where `reference`, measured together with it, takes `reference_ms`.

        What slows the whole machine for a while slows both, and drops out.
        """
        factor = reference_ms / reference.median_ms
        return replace(
            self,
            median_ms=self.median_ms * factor,
            p90_ms=self.p90_ms * factor,
            min_ms=self.min_ms * factor,
            samples_ms=tuple(sample * factor for sample in self.samples_ms),
        )


class Sample(NamedTuple):
    """One run: its wall time, the calling thread's processor time and involuntary switches, and the core's pace.

    The pace is the slower of those before and after the run, see `latency/pace.py`; 0 where it was not looked at.
    """

    wall_ms: float
    cpu_ms: float
    switches: int
    pace_us: float = 0.0


@dataclass(frozen=True)
class Round:
    """What one round says of one call.

    Attributes:
        samples_ms: wall time of the samples that ran through; where those are fewer than half, the processor time of
            all, which leaves out what the machine gave to others; where that says nothing, the wall time of all.
        cpu_ratio: wall time over processor time of the calling thread, over all samples.
        switches: involuntary switches of the calling thread.
        others: cores that other programs kept busy, on average.
        throttled: how often heat or a quota held the processor back meanwhile.
        paces_us: the core's pace at each of the samples.
    """

    samples_ms: tuple[float, ...]
    cpu_ratio: float
    switches: int
    others: float
    throttled: int
    paces_us: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], others: float, throttled: int, rule: Rule, in_thread: bool) -> Round:
        """Make a round of what was sampled in the calling thread."""
        through = [one for one in samples if not one.switches and one.wall_ms <= rule.busy_ratio * one.cpu_ms]
        kept = through if in_thread and 2 * len(through) >= len(samples) else samples
        return cls(
            samples_ms=tuple(one.cpu_ms if in_thread and kept is samples else one.wall_ms for one in kept),
            cpu_ratio=sum(one.wall_ms for one in samples) / max(sum(one.cpu_ms for one in samples), 1e-9),
            switches=sum(one.switches for one in samples),
            others=others,
            throttled=throttled,
            paces_us=tuple(one.pace_us for one in kept),
        )


def conclude(
    rounds: Sequence[Round],
    quiet: Sequence[bool],
    rule: Rule,
    *,
    in_thread: bool = True,
    beside: Sequence[Round] | None = None,
) -> Measurement:
    """Turn rounds into a measurement: from the quiet ones, or from all where too few were quiet.

    Args:
        rounds: of one call.
        quiet: which of them count.
        rule: by which they were taken.
        in_thread: the calling thread did all the work.
        beside: the reference's rounds, taken in turn with these.
    """
    trusted = sum(quiet) >= rule.rounds
    counts = [is_quiet or not trusted for is_quiet in quiet]
    used = [found for found, one in zip(rounds, counts) if one]
    reference = None if beside is None else [found for found, one in zip(beside, counts) if one]
    near = undisturbed(used, rule)
    samples = [sample for found in used for sample in found.samples_ms]
    median = statistics.median(near)
    low, high = quantiles(near, (0.25, 0.75))
    return Measurement(
        median_ms=median,
        p90_ms=quantiles(samples, (0.9,))[0],
        min_ms=min(samples),
        spread=(high - low) / 2 / median,
        samples_ms=tuple(samples[:: math.ceil(len(samples) / SAMPLES_KEPT)]),
        error=uncertainty(used, rule, reference),
        undisturbed=len(near) / len(samples),
        rounds=len(rounds),
        cpu_ratio=statistics.median(found.cpu_ratio for found in used),
        switches=sum(found.switches for found in used),
        trusted=trusted,
        reason="" if trusted else _reason(rounds, sum(quiet), rule, in_thread),
    )


def undisturbed(rounds: Sequence[Round], rule: Rule) -> list[float]:
    """Return the samples that `rule` lets count, in ms: near the fastest of those with the core to themselves."""
    samples = [sample for found in rounds for sample in found.samples_ms]
    paces = [pace for found in rounds for pace in found.paces_us]
    fastest, tenth = quantiles(paces, (FASTEST, ALONE_LEAST))
    limit = max((1 + rule.pace) * fastest, tenth)
    alone = [sample for sample, pace in zip(samples, paces) if pace <= limit]
    near = (1 + rule.near) * quantiles(alone, (FASTEST,))[0]
    return [sample for sample in alone if sample <= near]


def alone_share(turns: Sequence[Mapping[str, Round]], rule: Rule) -> float:
    """Return the share of the last turn's samples that had the core to themselves, by the fastest pace of all turns."""
    limit = (1 + rule.pace) * min(min(found.paces_us) for turn in turns for found in turn.values())
    paces = [pace for found in turns[-1].values() for pace in found.paces_us]
    return sum(pace <= limit for pace in paces) / len(paces)


def uncertainty(rounds: Sequence[Round], rule: Rule, beside: Sequence[Round] | None = None) -> float:
    """Return the relative standard error of the number that the rounds give; 1 for a single round.

    By the delete-a-group jackknife, on the logarithm, over groups of consecutive rounds: disturbances last longer than
    a sample, so samples don't count as independent. With `beside`, of the ratio to the number that those rounds give.
    """
    groups = min(_GROUPS, len(rounds))
    if groups < 2:
        return 1.0
    numbers = []
    for group in range(groups):
        number = 0.0
        for sign, each in ((1, rounds), (-1, beside)):
            if each is not None:
                kept = [one for at, one in enumerate(each) if at * groups // len(each) != group]
                number += sign * math.log(statistics.median(undisturbed(kept, rule)))
        numbers.append(number)
    return math.sqrt((groups - 1) * statistics.pvariance(numbers))


def is_quiet(found: Round, in_thread: bool, spare_cores: int) -> bool:
    """Say whether a round counts: the call had its core at full clock, and other programs had enough of the rest."""
    alone = found.others <= OTHERS_MAX + spare_cores
    return alone and not found.throttled and (not in_thread or found.cpu_ratio <= 1 + WAITING_MAX)


def _reason(rounds: Sequence[Round], quiet: int, rule: Rule, in_thread: bool) -> str:
    others = statistics.median(found.others for found in rounds)
    waiting = statistics.median(found.cpu_ratio for found in rounds) - 1
    throttled = sum(found.throttled for found in rounds)
    causes = []
    if throttled:
        causes.append(f"heat or a quota held the processor back {throttled} times")
    if others > OTHERS_MAX:
        causes.append(f"other programs kept {others:.1f} cores busy")
    if in_thread and waiting > WAITING_MAX:
        causes.append(f"inferences waited for {waiting:.0%} of their processor time")
    cause = f": {' and '.join(causes)}" if causes else ""
    return f"only {quiet} of {len(rounds)} rounds were quiet, {rule.rounds} are needed{cause}"


def quantiles(values: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Return quantiles by linear interpolation between the sorted values."""
    ordered = sorted(values)
    found = []
    for share in shares:
        place = share * (len(ordered) - 1)
        low, high = math.floor(place), math.ceil(place)
        found.append(ordered[low] + (ordered[high] - ordered[low]) * (place - low))
    return found
