"""The measuring itself: calls taken in turn, round after round, until the rule is satisfied."""

from __future__ import annotations

import math
import resource
import statistics
import time
from typing import Callable, Collection, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from edgeprune.latency.measurement import Measurement, Round, Sample, alone_share, conclude, is_quiet, uncertainty
from edgeprune.latency.pace import pace_us
from edgeprune.latency.rule import Rule
from edgeprune.targets.clocks import CpuTimes, throttles

_STEADY_BATCH_S = 0.02
_WARMUP_MAX = 5.0
_SLICE_S = 0.015
_ALONE_LEAST = 0.25
"""A core that is alone for less of a round than this is given up for another one."""


def measure(
    calls: Mapping[str, Callable[[], object]],
    rule: Rule,
    *,
    beside: Optional[str] = None,
    in_thread: bool = True,
    on_core: bool = True,
    cores: Collection[int] = (),
    spare_cores: int = 0,
    relocate: Optional[Callable[[], None]] = None,
) -> Dict[str, Measurement]:
    """Time every call by `rule`, interleaved: each round takes each call once, and counts for all of them or for none.

    What is repeated how often, in one sentence: after a warm-up of `warmup_s` and until steady, each call runs for
    `round_s` and at least `samples_min` times a round, in slices of 15 ms that take the calls in turn, over `rounds`
    to `rounds_max` quiet rounds, until the median's standard error is below `error`; up to `retries` busy rounds are
    taken again. `Rule.sentence` says it with the numbers.

    A call that works in the calling thread (OpenVINO and ONNX Runtime with one thread do: checked) is interrupted when
    its wall time is above its processor time, or when the system switched away from it. Such samples do not count where
    at least half of a round ran through; in any other round all of them do, by their processor time (`Round.of`). A
    call that waits for threads of its own or for another processor shows nothing there: none of its samples is taken
    for interrupted, and only the other programs' load, heat and quotas tell a quiet round from a busy one. Between two
    runs on a core its pace is looked at (`latency/pace.py`): samples during which another program had a part of it do
    not count either. Of what works on an accelerator no pace is looked at.

    Args:
        calls: what to time, by name; each runs once when called.
        rule: how often.
        beside: the call that the others are compared with.
        in_thread: the calling thread does all the work of a call.
        on_core: a call's time depends on the calling thread's core: what works on an accelerator does not.
        cores: those that the calls may use; what runs on others is no concern. All of them by default.
        spare_cores: how many of them the calls do not need; other programs may use so many.
        relocate: called before the first round and again after every one in which the core was busy or shared, to move
            to a quieter one.
    """
    if relocate:
        relocate()
    for call in calls.values():
        _warm_up(call, rule)
    turns: List[Dict[str, Round]] = []
    quiet: List[bool] = []
    while not _enough(turns, quiet, rule, beside):
        turns.append(_turn(calls, rule, in_thread, on_core, cores))
        quiet.append(all(is_quiet(found, in_thread, spare_cores) for found in turns[-1].values()))
        if relocate and (not quiet[-1] or alone_share(turns, rule) < _ALONE_LEAST):
            relocate()
    rounds = {name: [turn[name] for turn in turns] for name in calls}
    return {
        name: conclude(
            found, quiet, rule, in_thread=in_thread, beside=rounds[beside] if beside not in (None, name) else None
        )
        for name, found in rounds.items()
    }


def _enough(turns: Sequence[Mapping[str, Round]], quiet: Sequence[bool], rule: Rule, beside: Optional[str]) -> bool:
    """Say whether the numbers are known well enough, or the bounds on the rounds are reached."""
    count = sum(quiet)
    if count < rule.rounds:
        return len(quiet) - count > rule.retries
    if count >= rule.rounds_max or len(quiet) >= rule.rounds_max + rule.retries:
        return True
    if count % rule.rounds and count % 8:
        return False
    used = [turn for turn, one in zip(turns, quiet) if one]
    names = [name for name in used[0] if name != beside]
    reference = [turn[beside] for turn in used] if beside is not None else None
    return all(uncertainty([turn[name] for turn in used], rule, reference) <= rule.error for name in names)


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
    samples: List[float] = []
    until = time.perf_counter() + _STEADY_BATCH_S
    while len(samples) < 3 or time.perf_counter() < until:
        samples.append(_sample(call)[0])
    return statistics.median(samples)


def _turn(
    calls: Mapping[str, Callable[[], object]], rule: Rule, in_thread: bool, on_core: bool, cores: Collection[int]
) -> Dict[str, Round]:
    """Take one round of every call, in slices of milliseconds that go in turn, so that all see the same machine."""
    samples: Dict[str, List[Sample]] = {name: [] for name in calls}
    clocks, held = CpuTimes.now(cores), throttles()
    while any(_lacks(found, rule) for found in samples.values()):
        for name, call in calls.items():
            samples[name] += _slice(call, on_core)
    others, held = CpuTimes.now(cores).others_since(clocks), throttles() - held
    return {name: Round.of(found, others, held, rule, in_thread) for name, found in samples.items()}


def _lacks(samples: Sequence[Sample], rule: Rule) -> bool:
    return len(samples) < rule.samples_min or sum(one.wall_ms for one in samples) < rule.round_s * 1e3


def _slice(call: Callable[[], object], on_core: bool) -> List[Sample]:
    """Take samples for a slice of time.

    The first run finds another call's data in the caches, so it does not count, unless it takes so long that this
    makes no difference.
    """
    source = _paced(call) if on_core else (Sample(*_sample(call)) for _ in iter(int, 1))
    first = next(source)
    if first.wall_ms > _SLICE_S * 1e3:
        return [first]
    samples: List[Sample] = []
    until = time.perf_counter() + _SLICE_S
    while not samples or time.perf_counter() < until:
        samples.append(next(source))
    return samples


def _paced(call: Callable[[], object]) -> Iterator[Sample]:
    """Yield samples, each with the slower of the core's paces before and after it."""
    before = pace_us()
    while True:
        sample, after = _sample(call), pace_us()
        yield Sample(*sample, max(before, after))
        before = after


def _sample(call: Callable[[], object]) -> Tuple[float, float, int]:
    """Run once; return wall ms, processor ms, involuntary switches.

    A call that works on an accelerator may return what that one's clock says: then these are its wall ms.
    """
    switched, used, start = _switches(), time.thread_time(), time.perf_counter()
    own_ms = call()
    wall_ms = own_ms if isinstance(own_ms, float) else (time.perf_counter() - start) * 1e3
    return wall_ms, (time.thread_time() - used) * 1e3, _switches() - switched


def _switches() -> int:
    """Return the involuntary switches so far, of this thread where the system counts them so, else of the process."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nivcsw
