from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from edgeprune.targets import accelerators
from edgeprune.targets.accelerators import Reading, Unseen, Watch
from edgeprune.targets.clocks import Finding

STEADY = Reading(mhz=918.0, celsius=45.0, watts=7.25)


@dataclass
class Played:
    """An accelerator whose readings are given; the last one repeats."""

    readings: list[Reading]
    free: str = ""
    asked: list[float] = field(default_factory=list)

    def hardware(self) -> dict[str, str]:
        return {}

    def findings(self) -> list[Finding]:
        return []

    def unlocked(self) -> str:
        return self.free

    def read(self) -> Reading:
        self.asked.append(time.monotonic())
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "INTERVAL_S", 0.001)


def watched(*readings: Reading, free: str = "") -> Watch:
    """Watch until every reading was taken."""
    played = Played(list(readings), free)
    with Watch(played) as watch:
        until = time.monotonic() + 10
        while len(played.asked) <= len(readings) and time.monotonic() < until:
            time.sleep(0.001)
    return watch


def test_clocks_that_stand_still_are_no_concern() -> None:
    watch = watched(STEADY, Reading(mhz=909.0, celsius=51.0, watts=8.0))  # 1 % lower: a step of the counter
    assert watch.concerns() == []
    assert watch.report() == {"gpu_mhz": "909 to 918 MHz", "gpu_celsius": "45 to 51 C", "gpu_watts": "7.25 to 8 W"}


def test_clocks_that_move_are_not_certified() -> None:
    assert watched(STEADY, Reading(mhz=612.0)).concerns() == ["the GPU's clock moved between 612 and 918 MHz"]


def test_what_is_held_back_is_said_before_all_else() -> None:
    concerns = watched(STEADY, Reading(mhz=612.0, held_back=("thermal slowdown",)), free="unlocked").concerns()
    assert concerns[0] == "the GPU was held back: thermal slowdown"
    assert "unlocked" in concerns


def test_an_alarm_between_two_readings_counts() -> None:
    watch = watched(Reading(mhz=918.0, events=3), Reading(mhz=918.0, events=5))
    assert watch.concerns() == ["the GPU was held back 2 times"]


def test_clocks_that_are_free_to_move_are_not_certified_even_if_they_did_not() -> None:
    assert watched(STEADY, free="free to move (sudo jetson_clocks locks it)").concerns() == [
        "free to move (sudo jetson_clocks locks it)"
    ]


def test_the_first_seconds_do_not_count() -> None:
    played = Played([STEADY])
    begin = time.monotonic()
    with Watch(played, skip_s=0.05):
        time.sleep(0.1)
    assert min(played.asked) >= begin + 0.05


def test_a_run_shorter_than_a_reading_is_read_at_its_end() -> None:
    with Watch(Played([STEADY]), skip_s=60.0) as watch:
        pass
    assert watch.report()["gpu_mhz"] == "918 MHz"


def test_a_cpu_is_not_watched_and_what_cannot_be_seen_is_not_certified() -> None:
    with Watch(None) as nothing:
        pass
    assert nothing.concerns() == []
    assert nothing.report() == {}
    with Watch(Unseen()) as unseen:
        pass
    assert "nothing can be seen" in unseen.concerns()[0]
    assert all(finding.remedy for finding in Unseen().findings())


def test_where_there_is_no_gpu_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprune.errors import MissingError

    def none() -> object:
        raise MissingError("no libcudart")

    monkeypatch.setattr(accelerators, "Cuda", none)
    assert isinstance(accelerators.find_accelerator(), Unseen)
