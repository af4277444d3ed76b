"""The repetition rule: how often something is repeated, which repetitions count, and what number comes out.

Why it is as it is (measured on a shared two-core virtual machine, networks of 1 to 40 ms): the first inferences after
compilation run at a third of their speed, so warm-up goes by the clock and until the times are steady. After that, a
neighbour on the same physical core or memory slows inferences by 10 to 60 % for milliseconds or seconds, while the
guest's own clocks (processor time, switches, steal) show little, and the shorter the slices that two networks take in
turn, the better their ratio repeats. So what is compared is measured together, in slices of 15 ms that take each call
in turn, and the median is taken over the samples near the fastest ones, because what disturbs only ever adds time. On a
quiet device those are all samples, and it is the plain median.
"""

from __future__ import annotations

import math
import resource
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping, Optional, Sequence

from edgeprune.errors import InputError
from edgeprune.targets.clocks import CpuTimes

_STEADY_BATCH_S = 0.02
_WARMUP_MAX = 5.0
_SLICE_S = 0.015
_OTHERS_MAX = 0.3
_WAITING_MAX = 1.0


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
        busy_ratio: a sample was interrupted when its wall time over its processor time is above this (calls that
            work in the calling thread only).
        retries: busy rounds that are repeated, at most.
        near: samples count up to this share above the fastest ones (their 5th percentile).
    """

    warmup_s: float = 0.3
    steady_tolerance: float = 0.03
    samples_min: int = 3
    round_s: float = 0.1
    rounds: int = 8
    busy_ratio: float = 1.05
    retries: int = 16
    near: float = 0.08

    def __post_init__(self) -> None:
        if self.samples_min < 1 or self.rounds < 1 or self.retries < 0 or self.busy_ratio <= 1:
            raise InputError(f"a rule that measures nothing: {self}", remedy="use positive counts, busy_ratio above 1")

    def sentence(self) -> str:
        """Say in one sentence what is repeated how often."""
        return (
            f"Median over the samples within {self.near:.0%} of the fastest (their 5th percentile) out of"
            f" {self.rounds} quiet rounds of {self.round_s:g} s (at least {self.samples_min} samples each), interleaved"
            f" over what is compared, after {self.warmup_s:g} s of warm-up and until steady"
            f" within {self.steady_tolerance:.0%}; a round is repeated, up to {self.retries} times, when other programs"
            f" used more than {_OTHERS_MAX:.0%} of a core that the measured one needs, or it waited for"
            f" {_WAITING_MAX:.0%} of its processor time; of samples that were interrupted (wall time above"
            f" {self.busy_ratio:g} x processor time) the wait is left out."
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; `Rule(**data)` reads it back."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


LONG = Rule(rounds=16, retries=32)
"""The rule for numbers that are reported or decided by: twice the rounds of the usual one."""


@dataclass(frozen=True)
class Measurement:
    """What came out.

    Attributes:
        median_ms: median over the samples near the fastest; the number that is reported.
        p90_ms: 90th percentile over all samples of the quiet rounds.
        min_ms: fastest of them.
        spread: half the range between the quarters of the samples near the fastest, over `median_ms`.
        undisturbed: share of the samples that are near the fastest: 1 on a quiet device.
        samples_ms: the samples of the quiet rounds, in order.
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
    undisturbed: float
    rounds: int
    cpu_ratio: float
    switches: int
    trusted: bool
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data that `from_json` reads back."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**data, "samples_ms": list(self.samples_ms)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Rebuild a measurement from `to_json` data."""
        return cls(**{**data, "samples_ms": tuple(data["samples_ms"])})

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


@dataclass(frozen=True)
class Round:
    """What one round says of one call.

    Attributes:
        samples_ms: wall time of the samples that ran through; where those are fewer than half, the processor time of
            all, which leaves out what the machine gave to others; where that says nothing, the wall time of all.
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
        kept = wall_ms
        if in_thread:
            kept = through if 2 * len(through) >= len(samples) else cpu_ms
        switches = sum(cut for _, _, cut in samples)
        ratio = sum(wall_ms) / max(sum(cpu_ms), 1e-9)
        return cls(kept, statistics.median(kept), ratio, switches, others)


def measure(
    calls: Mapping[str, Callable[[], object]],
    rule: Rule,
    *,
    in_thread: bool = True,
    spare_cores: int = 0,
    settle: Optional[Callable[[], None]] = None,
) -> dict[str, Measurement]:
    """Time every call by `rule`, interleaved: each round takes each call once, and counts for all of them or for none.

    A call that works in the calling thread (OpenVINO and ONNX Runtime with one thread do: checked) is interrupted when
    its wall time is above its processor time, or when the system switched away from it; such samples do not count. A
    call that waits for threads of its own or for another processor shows nothing there, and only the other programs'
    load tells a quiet round from a busy one.

    Args:
        calls: what to time, by name; each runs once when called.
        rule: how often.
        in_thread: the calling thread does all the work of a call.
        spare_cores: cores that the calls do not need; other programs may use those.
        settle: called before the first round and again after every busy one, such as to move to a quieter core.
    """
    if settle:
        settle()
    for call in calls.values():
        _warm_up(call, rule)
    turns: list[dict[str, Round]] = []
    quiet: list[bool] = []
    while sum(quiet) < rule.rounds and len(turns) < rule.rounds + rule.retries:
        turns.append(_turn(calls, rule, in_thread))
        quiet.append(all(_is_quiet(found, in_thread, spare_cores) for found in turns[-1].values()))
        if settle and not quiet[-1]:
            settle()
    return {name: conclude([turn[name] for turn in turns], quiet, rule, in_thread=in_thread) for name in calls}


def conclude(rounds: Sequence[Round], quiet: Sequence[bool], rule: Rule, *, in_thread: bool = True) -> Measurement:
    """Turn rounds into a measurement: from the quiet ones, or from all where too few were quiet."""
    trusted = sum(quiet) >= rule.rounds
    used = [found for found, is_quiet in zip(rounds, quiet) if is_quiet or not trusted]
    samples = [sample for found in used for sample in found.samples_ms]
    limit = (1 + rule.near) * quantiles(samples, (0.05,))[0]
    near = [sample for sample in samples if sample <= limit]
    median = statistics.median(near)
    low, high = quantiles(near, (0.25, 0.75))
    return Measurement(
        median_ms=median,
        p90_ms=quantiles(samples, (0.9,))[0],
        min_ms=min(samples),
        spread=(high - low) / 2 / median,
        samples_ms=tuple(samples),
        undisturbed=len(near) / len(samples),
        rounds=len(rounds),
        cpu_ratio=statistics.median(found.cpu_ratio for found in used),
        switches=sum(found.switches for found in used),
        trusted=trusted,
        reason="" if trusted else _reason(rounds, sum(quiet), rule, in_thread),
    )


def _is_quiet(found: Round, in_thread: bool, spare_cores: int) -> bool:
    alone = found.others <= _OTHERS_MAX + spare_cores
    return alone and (not in_thread or found.cpu_ratio <= 1 + _WAITING_MAX)


def _reason(rounds: Sequence[Round], quiet: int, rule: Rule, in_thread: bool) -> str:
    others = statistics.median(found.others for found in rounds)
    waiting = statistics.median(found.cpu_ratio for found in rounds) - 1
    causes = []
    if others > _OTHERS_MAX:
        causes.append(f"other programs kept {others:.1f} cores busy")
    if in_thread and waiting > _WAITING_MAX:
        causes.append(f"inferences waited for {waiting:.0%} of their processor time")
    cause = f": {' and '.join(causes)}" if causes else ""
    return f"only {quiet} of {len(rounds)} rounds were quiet, {rule.rounds} are needed{cause}"


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


def _turn(calls: Mapping[str, Callable[[], object]], rule: Rule, in_thread: bool) -> dict[str, Round]:
    """Take one round of every call, in slices of milliseconds that go in turn, so that all see the same machine."""
    samples: dict[str, list[tuple[float, float, int]]] = {name: [] for name in calls}
    clocks = CpuTimes.now()
    while any(_lacks(found, rule) for found in samples.values()):
        for name, call in calls.items():
            samples[name] += _slice(call)
    others = CpuTimes.now().others_since(clocks)
    return {name: Round.of(found, others, rule, in_thread) for name, found in samples.items()}


def _lacks(samples: Sequence[tuple[float, float, int]], rule: Rule) -> bool:
    return len(samples) < rule.samples_min or sum(wall_ms for wall_ms, _, _ in samples) < rule.round_s * 1e3


def _slice(call: Callable[[], object]) -> list[tuple[float, float, int]]:
    """Take samples, each (wall ms, processor ms, switches); the first run finds another call's data in the caches."""
    call()
    samples: list[tuple[float, float, int]] = []
    until = time.perf_counter() + _SLICE_S
    while not samples or time.perf_counter() < until:
        switched, used, start = _switches(), time.thread_time(), time.perf_counter()
        call()
        wall_s = time.perf_counter() - start
        samples.append((wall_s * 1e3, (time.thread_time() - used) * 1e3, _switches() - switched))
    return samples


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
