from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import InputError
from edgeprune.latency.measure import measure
from edgeprune.latency.measurement import (
    Measurement,
    Round,
    Sample,
    alone_share,
    conclude,
    is_quiet,
    quantiles,
    uncertainty,
    undisturbed,
)
from edgeprune.latency.rule import Rule

RULE = Rule(rounds=2, samples_min=3, busy_ratio=1.1, retries=2, near=0.07)


def quiet(*wall_ms: float) -> Round:
    return made([(wall, wall, 0) for wall in wall_ms])


def made(
    samples: list[tuple[float, float, int]], others: float = 0.0, in_thread: bool = True, throttled: int = 0
) -> Round:
    return Round.of([Sample(*sample) for sample in samples], others, throttled, RULE, in_thread)


def at_pace(*samples: tuple[float, float]) -> Round:
    """Return a round of (wall ms, pace us)."""
    return Round.of([Sample(wall, wall, 0, pace) for wall, pace in samples], 0.0, 0, RULE, True)


def test_the_median_is_over_the_samples_near_the_fastest() -> None:
    found = conclude([quiet(1.0, 1.02, 1.04), quiet(1.06, 1.2, 1.5)], [True, True], RULE)
    assert found.trusted
    # The 2nd percentile of the six is 1.002, and 7 % above it is 1.072: four samples are near.
    assert found.median_ms == pytest.approx(1.03)
    assert found.undisturbed == pytest.approx(4 / 6)
    # The quarters of the four are at 1.015 and 1.045, half their range is 0.015.
    assert found.spread == pytest.approx(0.015 / 1.03)
    assert found.min_ms == 1.0
    # 0.9 of the way through six samples is place 4.5, half-way between the last two.
    assert found.p90_ms == pytest.approx(1.35)
    assert found.samples_ms == (1.0, 1.02, 1.04, 1.06, 1.2, 1.5)
    assert found.cpu_ratio == 1.0
    assert found.switches == 0


def test_only_samples_with_the_core_to_themselves_count() -> None:
    rule = replace(RULE, pace=0.15)
    # The 2nd percentile of the paces is 7.0, and 15 % above it is 8.05: the third and the fourth sample were slowed,
    # though the third is as fast as any.
    rounds = [at_pace((1.02, 7.0), (1.04, 7.0), (1.0, 12.0)), at_pace((1.5, 9.0), (1.03, 8.0), (1.05, 7.0))]
    assert undisturbed(rounds, rule) == [1.02, 1.04, 1.03, 1.05]
    # A neighbour that shares the memory does not show in the pace: 7 % above the fastest is the limit as well.
    assert undisturbed([at_pace((1.0, 7.0), (1.0, 7.0), (1.2, 7.0))], rule) == [1.0, 1.0]
    found = conclude(rounds, [True] * 2, rule)
    assert (found.median_ms, found.undisturbed) == (pytest.approx(1.035), pytest.approx(4 / 6))
    assert len(found.samples_ms) == 6


def test_a_tenth_of_the_samples_counts_however_the_pace_changed() -> None:
    # One pace after another, each 20 % slower than the one before: of 21 samples the 2nd percentile lies at 1.08, so
    # one would count, but the best tenth are the first three.
    rounds = [at_pace(*((1.0 + at / 1000, 1.2**at) for at in range(21)))]
    assert undisturbed(rounds, replace(RULE, pace=0.01)) == [1.0, 1.001, 1.002]


def test_the_share_of_a_turn_that_had_the_core_alone() -> None:
    rule = replace(RULE, pace=0.15)
    alone, shared = at_pace((1.0, 7.0), (1.0, 7.0)), at_pace((1.0, 7.0), (1.0, 12.0), (1.0, 12.0), (1.0, 12.0))
    assert alone_share([{"call": alone}], rule) == 1.0
    # By the best pace of all turns, three of the last one's four samples were slowed.
    assert alone_share([{"call": alone}, {"call": shared}], rule) == 0.25
    # Nobody looked at the pace of what does not depend on the core.
    assert alone_share([{"call": quiet(1.0, 1.1)}], rule) == 1.0


def test_a_core_that_is_shared_is_left(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    paces = iter([7.0] * 20 + [12.0] * 1000)
    monkeypatch.setattr("edgeprune.latency.measure.pace_us", lambda: next(paces))
    relocated: list[float] = []
    rule = Rule(warmup_s=0.0, samples_min=2, round_s=0.005, rounds=3, rounds_max=3, retries=0)
    measure({"call": clock.call(1.0, 1.0)}, rule, relocate=lambda: relocated.append(clock.now))
    # Before the first round, which takes 17 looks of good pace at most; after the second and the third.
    assert len(relocated) == 3


def test_what_works_on_an_accelerator_is_not_held_against_the_core(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr("edgeprune.latency.measure.pace_us", lambda: pytest.fail("nobody should look"))
    rule = Rule(warmup_s=0.0, samples_min=2, round_s=0.005, rounds=2, rounds_max=2)
    assert measure({"call": clock.call(1.0, 1.0)}, rule, on_core=False)["call"].undisturbed == 1.0


def test_the_error_is_that_of_groups_of_rounds() -> None:
    # Leaving one of two rounds out gives the other: log 1 and log 1.21, and the jackknife's error of two numbers is
    # their standard deviation over the root of 1/2 * 2, half their distance.
    assert uncertainty([quiet(1.0), quiet(1.21)], RULE) == pytest.approx(math.log(1.21) / 2)
    assert uncertainty([quiet(1.0)], RULE) == 1.0
    assert uncertainty([quiet(1.0)] * 20, RULE) == 0.0


def test_beside_a_reference_the_error_is_that_of_the_ratio() -> None:
    rounds, slower = [quiet(1.0), quiet(1.21)], [quiet(2.0), quiet(2.42)]
    assert uncertainty(rounds, RULE, slower) == pytest.approx(0.0, abs=1e-12)
    found = conclude(rounds, [True] * 2, RULE, beside=slower)
    assert found.error == pytest.approx(0.0, abs=1e-12)


class Clock:
    """Stands where `time` does in the measuring: it goes on only while a call runs, so that nothing else has a say."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    thread_time = perf_counter

    def call(self, least_ms: float, most_ms: float) -> Callable[[], None]:
        """Return a call that takes from `least_ms` to `most_ms`, evenly spread."""
        random = Random(0)

        def run() -> None:
            self.now += random.uniform(least_ms, most_ms) / 1e3

        return run


class Idle:
    """Stands where `CpuTimes` does: no other program runs."""

    @classmethod
    def now(cls, cores: Collection[int] = ()) -> Idle:
        return cls()

    def others_since(self, before: Idle) -> float:
        return 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A machine on which only the measured call runs: no load, no interruption, a clock of its own."""
    own = Clock()
    monkeypatch.setattr("edgeprune.latency.measure.time", own)
    monkeypatch.setattr("edgeprune.latency.measure.CpuTimes", Idle)
    monkeypatch.setattr("edgeprune.latency.measure._switches", lambda: 0)
    monkeypatch.setattr("edgeprune.latency.measure.pace_us", lambda: 7.0)
    return own


def test_rounds_go_on_until_the_number_is_known(clock: Clock) -> None:
    rule = Rule(warmup_s=0.0, samples_min=2, round_s=0.005, rounds=2, rounds_max=2, error=1e-9, retries=0)

    def rounds(least_ms: float, most_ms: float, **changes: float) -> int:
        found = measure({"call": clock.call(least_ms, most_ms)}, replace(rule, **changes))["call"]  # type: ignore[arg-type]
        assert found.trusted
        return found.rounds

    # Times spread over 5 % give no median to nine digits, so only the bound ends the rounds.
    assert rounds(1.0, 1.05) == 2
    assert rounds(1.0, 1.05, rounds_max=12) == 12
    # The median of a round's fifteen such times is off by a percent at most, and equal times are known at once.
    assert rounds(1.0, 1.05, rounds_max=50, error=0.02) == 2
    assert rounds(1.0, 1.0, rounds_max=50) == 2


def test_a_disturbed_round_does_not_count() -> None:
    found = conclude([quiet(1.2, 1.2, 1.2), quiet(1, 1, 1), quiet(1, 1, 1)], [False, True, True], RULE)
    assert found.trusted
    assert found.median_ms == 1
    assert found.rounds == 3


def test_what_slows_the_machine_drops_out_beside_a_reference() -> None:
    one = conclude([quiet(6.0, 6.3), quiet(9.0)], [True] * 2, RULE)
    reference = conclude([quiet(3.0), quiet(4.5)], [True] * 2, RULE)
    # The machine is three times slower than when the reference took 1 ms.
    found = one.rebased(reference, 1.0)
    assert found.median_ms == pytest.approx(6.15 / 3)
    assert found.samples_ms == pytest.approx((2.0, 2.1, 3.0))


def test_interrupted_samples_do_not_count() -> None:
    # The second took ten times its processor time, the third was switched away from.
    samples = [(1.0, 1.0, 0), (10.0, 1.0, 0), (1.5, 1.5, 1), (1.02, 1.02, 0)]
    assert made(samples).samples_ms == (1.0, 1.02)
    assert made(samples, in_thread=False).samples_ms == (1.0, 10.0, 1.5, 1.02)
    assert made(samples).cpu_ratio == pytest.approx(13.52 / 4.52)
    assert made(samples).switches == 1


def test_where_most_samples_were_interrupted_processor_time_stands_in() -> None:
    cut = [(3.0, 1.0, 1), (4.0, 1.2, 1)]
    assert made(cut).samples_ms == (1.0, 1.2)
    assert made([*cut, (1.1, 1.1, 0)]).samples_ms == (1.0, 1.2, 1.1)
    assert made(cut, in_thread=False).samples_ms == (3.0, 4.0)
    assert not conclude([made(cut)] * 5, [False] * 5, RULE).trusted


def test_too_few_quiet_rounds_are_not_trusted_and_say_why() -> None:
    rounds = [made([(ms, ms, 0)] * 2, others=1.5) for ms in (5.0, 1.0, 2.0, 1.5)]
    found = conclude(rounds, [False] * 4, RULE)
    assert not found.trusted
    assert found.reason == "only 0 of 4 rounds were quiet, 2 are needed: other programs kept 1.5 cores busy"
    assert found.median_ms == 1.0


def test_a_round_in_which_the_processor_was_held_back_does_not_count(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([7, 9, 9, 9, 9, 9])  # twice in the first round
    monkeypatch.setattr("edgeprune.latency.measure.throttles", lambda: next(counts))
    rule = Rule(warmup_s=0.0, samples_min=2, round_s=0.005, rounds=2, rounds_max=2, retries=1)
    found = measure({"call": clock.call(1.0, 1.0)}, rule)["call"]
    assert (found.trusted, found.rounds) == (True, 3)
    held = made([(1.0, 1.0, 0)], throttled=2)
    assert not is_quiet(held, True, 0)
    assert conclude([held], [False], RULE).reason.endswith(
        "are needed: heat or a quota held the processor back 2 times"
    )


def test_interruptions_are_named() -> None:
    rounds = [made([(3.0, 1.0, 3)] * 2) for _ in range(2)]
    assert "waited for 200% of their processor time" in conclude(rounds, [False] * 2, RULE).reason


@pytest.mark.parametrize(
    ("others", "spare", "counts"), [(0.2, 0, True), (0.8, 0, False), (0.8, 1, True), (1.6, 1, False)]
)
def test_other_programs_may_use_the_cores_that_are_not_needed(others: float, spare: int, counts: bool) -> None:
    assert is_quiet(made([(1.0, 1.0, 0)] * 3, others=others), True, spare) == counts


class Call:
    """Takes a number of milliseconds of processor time, and counts."""

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        until = time.thread_time() + self.ms / 1e3
        while time.thread_time() < until:
            pass


def test_measures_several_calls_side_by_side() -> None:
    calls = {"short": Call(1), "long": Call(4)}
    relocated = []
    rule = Rule(warmup_s=0.01, steady_tolerance=1.0, samples_min=2, round_s=0.005, rounds=3, retries=3)
    found = measure(calls, rule, relocate=lambda: relocated.append(1))
    assert list(found) == ["short", "long"]
    assert found["short"].median_ms < found["long"].median_ms
    assert found["long"].median_ms >= 4
    for name in calls:
        assert 3 <= found[name].rounds <= 6
        assert found[name].trusted == (found[name].reason == "")
        assert calls[name].count > len(found[name].samples_ms)
    assert relocated


def test_a_call_that_raises_is_not_hidden() -> None:
    def broken() -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        measure({"broken": broken}, Rule())


def test_of_very_many_samples_some_are_kept_at_even_distances() -> None:
    many = [1.0 + at / 1e6 for at in range(25_000)]
    found = conclude([at_pace(*((sample, 7.0) for sample in many))], [True], replace(RULE, rounds=1))
    assert found.samples_ms == tuple(many[::3]), "the least that leaves no more than 10,000"
    assert found.median_ms == pytest.approx(1.0 + 12_499.5 / 1e6)


def test_the_sentence_holds_every_number_of_the_rule() -> None:
    sentence = Rule(1.5, 0.04, 6, 0.2, 7, 0.012, 35, 1.15, 13, 0.09, 0.17).sentence()
    for part in (
        "1.5 s",
        "4%",
        "6 samples",
        "0.2 s",
        "7 to 35 quiet rounds",
        "below 1.2%",
        "1.15 x",
        "13 times",
        "30% of a core",
        "within 9%",
        "within 17%",
    ):
        assert part in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence
    # What holds in one case alone is said of that case: on a CPU, and there with a single thread.
    both, single = sentence.partition("on a CPU a sample counts only")[2].split("with a single thread")
    assert "within 17%" in both
    assert "1.15 x" in single
    assert "more than half of a round was interrupted, all of it counts, by its processor time" in single


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"samples_min": 0}, {"busy_ratio": 1.0}, {"retries": -1}])
def test_a_rule_that_measures_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="measures nothing"):
        Rule(**wrong)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, st.lists(FINITE), st.integers(), st.booleans(), st.text())
def test_values_survive_json(number: float, samples: list[float], count: int, trusted: bool, reason: str) -> None:
    found = Measurement(
        number, number, number, number, tuple(samples), number, number, count, number, count, trusted, reason
    )
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_rule_survives_json() -> None:
    rule = Rule(rounds=3, round_s=0.5)
    assert Rule(**json.loads(json.dumps(rule.to_json()))) == rule


@given(st.lists(FINITE.filter(lambda value: abs(value) < 1e100), min_size=1), st.floats(0, 1))
def test_quantiles_lie_within_the_values(values: list[float], share: float) -> None:
    (found,) = quantiles(values, [share])
    margin = 1e-9 * max(map(abs, values))
    assert min(values) - margin <= found <= max(values) + margin
    assert math.isclose(quantiles(values, [0.0])[0], min(values))
    assert math.isclose(quantiles(values, [1.0])[0], max(values))
