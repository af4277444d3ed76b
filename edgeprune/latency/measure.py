"""The repetition rule: how often something is repeated, which repetitions count, and what number comes out.

Why it is as it is (measured on a shared two-core virtual machine, networks of 2.5 to 40 ms): the first inferences after
compilation run at a third of their speed, so warm-up goes by the clock and until the times are steady. After that, a
quiet machine repeats within 1 %, but a neighbour on the same physical core or memory slows everything by 10 to 60 % for
seconds, while the guest's own clocks (processor time, switches, steal) show nothing. So the samples are taken in short
rounds, interleaved over the things compared, and a round counts only when nothing was seen to disturb it and it is near
the fastest one. There, medians over all rounds of a second scattered by 11 %, those over the rounds that count by 3 %;
with four programs on the two cores, wall times scattered by a factor of four, what this file makes of them by 6 %.
"""

from __future__ import annotations

import math
import resource
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional, Sequence

from edgeprune.errors import InputError
from edgeprune.targets.clocks import CpuTimes

_STEADY_BATCH_S = 0.02
_WARMUP_MAX = 5.0
_COLD_RUNS = 2
_OTHERS_MAX = 0.3


@dataclass(frozen=True)
class Rule:
    """How a call is repeated.

    Attributes:
        warmup_s: seconds that each call runs before anything counts.
        steady_tolerance: the warm-up goes on until two batches of runs (20 ms each) differ by less than this share, but
            ends after five times `warmup_s`.
        samples_min: samples that a round takes at least.
        round_s: seconds that a round takes for each call.
        rounds: quiet rounds that each call needs.
        busy_ratio: a round is busy when its wall time over its processor time is above this (calls that work in
            the calling thread only), or when its median is above this times that of the call's fastest round.
        retries: busy rounds that are repeated, at most, for each call.
    """

    warmup_s: float = 0.3
    steady_tolerance: float = 0.03
    samples_min: int = 3
    round_s: float = 0.1
    rounds: int = 8
    busy_ratio: float = 1.05
    retries: int = 16

    def __post_init__(self) -> None:
        if self.samples_min < 1 or self.rounds < 1 or self.retries < 0 or self.busy_ratio <= 1:
            raise InputError(f"a rule that measures nothing: {self}", remedy="use positive counts, busy_ratio above 1")

    def sentence(self) -> str:
        """Say in one sentence what is repeated how often."""
        return (
            f"Median over the samples of {self.rounds} quiet rounds of {self.round_s:g} s (at least {self.samples_min}"
            f" samples each), interleaved over what is compared, after {self.warmup_s:g} s of warm-up and until steady"
            f" within {self.steady_tolerance:.0%}; a round is repeated, up to {self.retries} times, when other programs"
            f" used more than {_OTHERS_MAX:.0%} of a core, its wall time was above {self.busy_ratio:g} x its processor"
            f" time, or its median above {self.busy_ratio:g} x that of the fastest round; interrupted samples do not"
            f" count."
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; `Rule(**data)` reads it back."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Measurement:
    """What came out.

    Attributes:
        median_ms: median over the samples that count; the number that is reported.
        p90_ms: 90th percentile over the same samples.
        min_ms: fastest of them.
        spread: half the range between the quarters of the rounds' medians, over `median_ms`.
        samples_ms: the samples that count, in order.
        rounds: rounds that were run, busy ones included.
        cpu_ratio: wall time over processor time of the calling thread in the rounds that count. Near 1 for a quiet
            single-threaded call; says little where the call waits for threads of its own.
        switches: involuntary switches of the calling thread in those rounds.
        trusted: enough rounds were quiet.
        reason: why not, if not.
    """

    median_ms: float
    p90_ms: float
    min_ms: float
    spread: float
    samples_ms: tuple[float, ...] = field(repr=False)
    rounds: int
    cpu_ratio: float
    switches: int
    trusted: bool
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data that `from_json` reads back."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["samples_ms"] = list(self.samples_ms)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Rebuild a measurement from `to_json` data."""
        return cls(**{**data, "samples_ms": tuple(data["samples_ms"])})


@dataclass(frozen=True)
class Round:
    """What one round says of one call.

    Attributes:
        samples_ms: wall time of the samples that ran through. Where all were interrupted, their processor time, which
            is nearer to the truth (such a round is not quiet); where that says nothing, the wall time of all.
        median_ms: their median.
        cpu_ratio: wall time over processor time of the calling thread, over all samples.
        switches: involuntary switches of the calling thread.
        others: cores that other programs kept busy, on average.
    """

    samples_ms: tuple[float, ...]
    median_ms: float
    cpu_ratio: float
    switches: int
    others: float

    @classmethod
    def of(cls, samples: Sequence[tuple[float, float, int]], others: float, rule: Rule, in_thread: bool) -> Round:
        """Make a round of samples, each (wall ms, processor ms, switches) of the calling thread."""
        wall_ms = tuple(wall for wall, _, _ in samples)
        cpu_ms = tuple(cpu for _, cpu, _ in samples)
        through = tuple(wall for wall, cpu, cut in samples if not cut and wall <= rule.busy_ratio * cpu)
        kept = (through or cpu_ms) if in_thread else wall_ms
        switches = sum(cut for _, _, cut in samples)
        return cls(kept, statistics.median(kept), sum(wall_ms) / max(sum(cpu_ms), 1e-9), switches, others)


def measure(
    calls: Mapping[str, Callable[[], object]],
    rule: Rule,
    *,
    in_thread: bool = True,
    settle: Optional[Callable[[], None]] = None,
) -> dict[str, Measurement]:
    """Time every call by `rule`, interleaved.

    A call that works in the calling thread (OpenVINO and ONNX Runtime with one thread do: checked) is interrupted when
    its wall time is above its processor time, or when the system switched away from it; such samples do not count. A
    call that waits for threads of its own or for another processor shows nothing there, and only the other programs'
    load and the distance from the fastest round tell a quiet round from a busy one.

    Args:
        calls: what to time, by name; each runs once when called.
        rule: how often.
        in_thread: the calling thread does all the work of a call.
        settle: called before the first round and again after every busy one, such as to move to a quieter core.
    """
    done: dict[str, list[Round]] = {name: [] for name in calls}
    if settle:
        settle()
    for call in calls.values():
        _warm_up(call, rule)
    waiting = list(calls)
    while waiting:
        for name in waiting:
            done[name].append(_round(calls[name], rule, in_thread))
        disturbed = [name for name in waiting if not _quiet(done[name], rule, in_thread)[-1]]
        if disturbed and settle:
            settle()
        waiting = [name for name in waiting if _unfinished(done[name], rule, in_thread)]
    return {name: conclude(rounds, rule, in_thread=in_thread) for name, rounds in done.items()}


def conclude(rounds: Sequence[Round], rule: Rule, *, in_thread: bool = True) -> Measurement:
    """Turn rounds into a measurement: from the quiet ones, or from the fastest where too few were quiet."""
    quiet = [found for found, is_quiet in zip(rounds, _quiet(rounds, rule, in_thread)) if is_quiet]
    trusted = len(quiet) >= rule.rounds
    used = quiet if trusted else sorted(rounds, key=lambda found: found.median_ms)[: rule.rounds]
    samples = [sample for found in used for sample in found.samples_ms]
    median = statistics.median(samples)
    low, high = quantiles([found.median_ms for found in used], (0.25, 0.75))
    return Measurement(
        median_ms=median,
        p90_ms=quantiles(samples, (0.9,))[0],
        min_ms=min(samples),
        spread=(high - low) / 2 / median,
        samples_ms=tuple(samples),
        rounds=len(rounds),
        cpu_ratio=statistics.median(found.cpu_ratio for found in used),
        switches=sum(found.switches for found in used),
        trusted=trusted,
        reason="" if trusted else _reason(rounds, len(quiet), rule, in_thread),
    )


def _quiet(rounds: Sequence[Round], rule: Rule, in_thread: bool) -> list[bool]:
    fastest = min(found.median_ms for found in rounds)
    return [
        found.others <= _OTHERS_MAX
        and found.median_ms <= rule.busy_ratio * fastest
        and (not in_thread or found.cpu_ratio <= rule.busy_ratio)
        for found in rounds
    ]


def _unfinished(rounds: Sequence[Round], rule: Rule, in_thread: bool) -> bool:
    return sum(_quiet(rounds, rule, in_thread)) < rule.rounds and len(rounds) < rule.rounds + rule.retries


def _reason(rounds: Sequence[Round], quiet: int, rule: Rule, in_thread: bool) -> str:
    others = statistics.median(found.others for found in rounds)
    ratio = statistics.median(found.cpu_ratio for found in rounds)
    causes = []
    if others > _OTHERS_MAX:
        causes.append(f"other programs kept {others:.1f} cores busy")
    if in_thread and ratio > rule.busy_ratio:
        causes.append(f"wall time was {ratio:.2f} x processor time")
    cause = " and ".join(causes) or f"the rounds differ by more than {rule.busy_ratio - 1:.0%}"
    return f"only {quiet} of {len(rounds)} rounds were quiet, {rule.rounds} are needed: {cause}"


def _warm_up(call: Callable[[], object], rule: Rule) -> None:
    start = time.perf_counter()
    before = math.inf
    while True:
        batch = _batch_ms(call)
        elapsed = time.perf_counter() - start
        steady = abs(batch - before) <= rule.steady_tolerance * batch
        if elapsed >= rule.warmup_s and (steady or elapsed >= _WARMUP_MAX * rule.warmup_s):
            return
        before = batch


def _batch_ms(call: Callable[[], object]) -> float:
    """Return the median time of one run over a batch of at least three runs and 20 ms."""
    samples: list[float] = []
    until = time.perf_counter() + _STEADY_BATCH_S
    while len(samples) < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e3)
    return statistics.median(samples)


def _round(call: Callable[[], object], rule: Rule, in_thread: bool) -> Round:
    """Take one round; its first runs are not counted, because the call before it left its own data in the caches."""
    for _ in range(_COLD_RUNS):
        call()
    samples: list[tuple[float, float, int]] = []
    clocks = CpuTimes.now()
    until = time.perf_counter() + rule.round_s
    while len(samples) < rule.samples_min or time.perf_counter() < until:
        switched, used, start = _switches(), time.thread_time(), time.perf_counter()
        call()
        wall_s = time.perf_counter() - start
        samples.append((wall_s * 1e3, (time.thread_time() - used) * 1e3, _switches() - switched))
    return Round.of(samples, CpuTimes.now().others_since(clocks), rule, in_thread)


def _switches() -> int:
    """Return the involuntary switches so far, of this thread where the system counts them so, else of the process."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nivcsw


def quantiles(values: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Return quantiles by linear interpolation between the sorted values."""
    ordered = sorted(values)
    found = []
    for share in shares:
        place = share * (len(ordered) - 1)
        low, high = math.floor(place), math.ceil(place)
        found.append(ordered[low] + (ordered[high] - ordered[low]) * (place - low))
    return found
