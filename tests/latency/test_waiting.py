from __future__ import annotations

from typing import Any

import pytest

from edgeprune.latency import waiting
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.rule import Rule
from edgeprune.latency.waiting import measured_when_quiet
from tests.listening import Listening
from tests.simulated import SimulatedBench, measurement

BUSY = "only 1 of 6 rounds were quiet, 8 are needed: other programs kept 0.4 cores busy"


class Clock:
    """Stands where `time` does: it goes on only when somebody sleeps, or measures."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Burst(SimulatedBench):
    """Busy until `until_s`; a measurement takes 2 s."""

    def __init__(self, clock: Clock, until_s: float) -> None:
        super().__init__()
        self._clock, self._until_s = clock, until_s
        self.tries = 0

    def measure(self, models: Any, rule: Any = None, reference: Any = None) -> dict[str, Measurement]:
        self.tries += 1
        quiet = self._clock.now >= self._until_s
        self._clock.now += 2
        return {
            "calm": measurement(1.0),
            "net": measurement(1.0) if quiet else Measurement.from_json({**measurement(2.0).to_json(), **UNTRUSTED}),
        }


UNTRUSTED = {"trusted": False, "reason": BUSY}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


def test_what_does_not_pass_by_itself_is_not_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {
        "trusted": False,
        "reason": "the GPU's clock is free to move (sudo jetson_clocks locks it)",
        "lasting": True,
    }
    monkeypatch.setitem(globals(), "UNTRUSTED", free)
    bench, progress = Burst(clock, until_s=10), Listening()
    found = measured_when_quiet(bench, {}, Rule(), progress=progress)["net"]  # type: ignore[arg-type]
    assert (bench.tries, progress.said) == (1, [])
    assert (found.reason, found.lasting) == (free["reason"], True)
    assert found.remedy == "mend that (edgeprune doctor shows how) and try again"


def test_a_burst_of_load_is_waited_for_and_said_once(clock: Clock) -> None:
    bench, progress = Burst(clock, until_s=10), Listening()
    found = measured_when_quiet(bench, {}, Rule(), progress=progress)  # type: ignore[arg-type]
    assert found["net"].trusted
    assert bench.tries == 3  # at 0, 5 and 10 s: 2 s of measuring and 3 s of pause each
    assert progress.said == [f"waiting for quiet, 58 s at most: {BUSY}"]


def test_after_a_minute_it_says_for_how_long_it_was_tried(clock: Clock) -> None:
    bench = Burst(clock, until_s=1e9)
    found = measured_when_quiet(bench, {}, Rule())  # type: ignore[arg-type]
    # The twelfth try ends at 57 s; after a pause that is a minute, and the thirteenth ends at 62 s.
    assert (bench.tries, clock.now) == (13, 62)
    assert (found["net"].trusted, found["net"].reason) == (False, f"{BUSY}; tried for 1 min 02 s")
    assert found["calm"].trusted


def test_a_quiet_machine_is_measured_once_and_nothing_is_said(clock: Clock) -> None:
    bench, progress = Burst(clock, until_s=0), Listening()
    measured_when_quiet(bench, {}, Rule(), progress=progress)  # type: ignore[arg-type]
    assert (bench.tries, progress.said) == (1, [])
