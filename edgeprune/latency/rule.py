"""The repetition rule: how often something is repeated, and which repetitions count.

Why it is as it is (measured on a shared two-core virtual machine, networks of 1 to 40 ms): the first inferences after
compilation run at a third of their speed, so warm-up goes by the clock and until the times are steady. After that, a
neighbour on the same physical core or memory slows inferences by 10 to 60 % for milliseconds or seconds, while the
guest's own clocks (processor time, switches, steal) show little, and the shorter the slices that two networks take in
turn, the better their ratio repeats. So what is compared is measured together, in slices of 15 ms that take each call
in turn. Who shares the core is told by a fixed piece of work between any two inferences (`latency/pace.py`), and what
shares the memory by the times themselves: the median is taken over the samples near the fastest ones, because what
disturbs only ever adds time. On a quiet device those are all samples, and it is the plain median. How long is enough
depends on the neighbours, so it goes on until the number's standard error is small, or a bound is reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeprune.errors import InputError

OTHERS_MAX = 0.3
"""Other programs may use so much of a core that a measured call needs; above, the round is busy."""

WAITING_MAX = 1.0
"""So many times its processor time may a call wait; above, the round is busy."""

FASTEST = 0.02
"""The quantile that stands for the fastest samples: the very fastest one says less about the rest."""

ALONE_LEAST = 0.1
"""At least this share of the samples, those at the best pace, counts as having had the core alone."""


@dataclass(frozen=True)
class Rule:
    """How a call is repeated.

    Attributes:
        warmup_s: seconds that each call runs before anything counts.
        steady_tolerance: the warm-up goes on until two batches of runs (20 ms each) differ by less than this share, but
            ends after five times `warmup_s`.
        samples_min: samples that a round takes at least.
        round_s: seconds that a round takes for each call.
        rounds: quiet rounds that each call needs at least.
        error: rounds go on until the relative standard error of every median is below this (of its ratio to the
            reference's, where there is one) ...
        rounds_max: ... but for no more quiet rounds than this.
        busy_ratio: a sample was interrupted when its wall time over its processor time is above this (calls that
            work in the calling thread only).
        retries: busy rounds that are repeated, at most.
        near: samples count up to this share above the fastest ones (their 2nd percentile).
        pace: a sample had the core to itself when a fixed piece of work before and after it took at most this share
            longer than the fastest such pieces.
    """

    warmup_s: float = 0.3
    steady_tolerance: float = 0.03
    samples_min: int = 1
    round_s: float = 0.1
    rounds: int = 8
    error: float = 0.02
    rounds_max: int = 10
    busy_ratio: float = 1.05
    retries: int = 16
    near: float = 0.03
    pace: float = 0.15

    def __post_init__(self) -> None:
        if self.rounds_max < self.rounds:
            raise InputError(
                f"at most {self.rounds_max} rounds where {self.rounds} are needed", remedy="use rounds_max >= rounds"
            )
        if self.samples_min < 1 or self.rounds < 1 or self.retries < 0 or self.busy_ratio <= 1:
            raise InputError(f"a rule that measures nothing: {self}", remedy="use positive counts, busy_ratio above 1")

    def sentence(self) -> str:
        """Say in one sentence what is repeated how often, and what counts on a CPU and with a single thread."""
        rounds = f"{self.rounds}" if self.rounds == self.rounds_max else f"{self.rounds} to {self.rounds_max}"
        return (
            f"Median over the samples within {self.near:.0%} of the fastest (their 2nd percentile) out of"
            f" {rounds} quiet rounds of {self.round_s:g} s (at least"
            f" {self.samples_min} samples each), until its standard error is below {self.error:.1%}, interleaved"
            f" over what is compared, after {self.warmup_s:g} s of warm-up and until steady"
            f" within {self.steady_tolerance:.0%}; a round is repeated, up to {self.retries} times, when other programs"
            f" used more than {OTHERS_MAX:.0%} of a core that the measured one needs, heat or a quota held the"
            f" processor back, or a single thread waited for {WAITING_MAX:.0%} of its processor time; on a CPU a sample"
            f" counts only if it had the core to itself (fixed work before and after it within {self.pace:.0%} of its"
            f" fastest, or among the best {ALONE_LEAST:.0%}); with a single thread, interrupted samples (switched away"
            f" from, or wall time above {self.busy_ratio:g} x processor time) do not count, but if more than half of a"
            f" round was interrupted, all of it counts, by its processor time."
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; `Rule(**data)` reads it back."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


SURVEY = Rule(rounds=8, rounds_max=24)
"""The rule for a table's networks one after the other, each beside the dense one, where that is all."""

GLANCE = Rule(rounds=3, rounds_max=3)
"""The same where they are all timed side by side in the end ..."""

SETTLING = Rule(rounds=16, rounds_max=32, error=0.004)
"""... by this rule."""

LONG = Rule(rounds=16, error=0.005, rounds_max=48, retries=32)
"""The rule for numbers that are decided by."""

FINAL = Rule(rounds=32, error=0.005, rounds_max=80, retries=64)
"""The rule for the numbers that are reported."""
