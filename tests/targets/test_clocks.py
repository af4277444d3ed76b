from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeprune.targets import clocks
from edgeprune.targets.clocks import CpuTimes, Finding, allowed_cores, findings, hardware, keep_affinity, pin


def test_other_programs_are_what_is_left_of_the_load() -> None:
    # In 2 s all cores together worked 3.5 s, 2 s of that for us: the others kept 0.75 cores busy.
    assert CpuTimes(13.5, 4.0, 102.0).others_since(CpuTimes(10.0, 2.0, 100.0)) == pytest.approx(0.75)


def test_the_load_of_others_is_never_negative() -> None:
    assert CpuTimes(11.0, 4.0, 102.0).others_since(CpuTimes(10.0, 2.0, 100.0)) == 0.0


def test_where_the_system_says_nothing_there_are_no_others() -> None:
    assert CpuTimes(None, 4.0, 102.0).others_since(CpuTimes(None, 2.0, 100.0)) == 0.0


def test_a_load_on_cores_that_are_not_ours_is_no_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [{0: (5.0, 1.0), 1: (5.0, 1.0)}, {0: (5.5, 2.5), 1: (7.0, 1.0)}]
    for cores, busy_s in (((), 2.5), ((0,), 0.5), ((1,), 2.0)):
        found = iter(readings)
        monkeypatch.setattr(clocks, "_core_times", lambda found=found: next(found))
        before, after = CpuTimes.now(cores), CpuTimes.now(cores)
        assert (before.busy_s, after.busy_s) == (5.0 * (len(cores) or 2), 5.0 * (len(cores) or 2) + busy_s)


def test_the_machine_is_described_the_same_twice() -> None:
    assert hardware() == hardware()
    assert {"cpu", "cores", "arch", "os"} <= set(hardware())
    assert all(hardware().values())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_thread_gets_its_cores_back() -> None:
    cores = allowed_cores()
    with keep_affinity():
        pin(cores[:1])
        assert allowed_cores() == cores[:1]
    assert allowed_cores() == cores


@pytest.mark.parametrize(("idle_s", "quietest"), [((0.01, 0.05, 0.04), [1, 2]), ((0.01, 0.0, 0.02), [2])])
def test_the_quietest_cores_are_the_idle_ones(
    monkeypatch: pytest.MonkeyPatch, idle_s: tuple[float, ...], quietest: list[int]
) -> None:
    """Those that are idle for three fifths of the time; where none is, the least busy one."""
    readings = iter(
        [{0: (0.0, 0.0), 1: (0.0, 0.0), 2: (0.0, 0.0)}, {at: (9.9, idle) for at, idle in enumerate(idle_s)}]
    )
    monkeypatch.setattr(clocks, "_core_times", lambda: next(readings))
    monkeypatch.setattr(clocks, "_capacity", lambda core: 0)
    assert clocks.quietest_cores([0, 1, 2], watch_s=0.05) == quietest


def test_strong_cores_come_before_idle_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([dict.fromkeys(range(3), (0.0, 0.0)), {0: (0.0, 0.05), 1: (0.05, 0.0), 2: (0.04, 0.01)}])
    monkeypatch.setattr(clocks, "_core_times", lambda: next(readings))
    monkeypatch.setattr(clocks, "_capacity", lambda core: {0: 500, 1: 1024, 2: 1024}[core])
    assert clocks.quietest_cores([0, 1, 2], watch_s=0.05) == [2]
    assert clocks.quietest_cores([0, 1], watch_s=0.05) == [1]


def test_findings_survive_json() -> None:
    for finding in (*findings(), Finding("a", "b", "c")):
        assert Finding.from_json(json.loads(json.dumps(finding.to_json()))) == finding


def test_reads_the_quota_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/sys/fs/cgroup/cpu.max": "150000 100000"}
    monkeypatch.setattr(clocks, "_text", lambda path: texts.get(str(path), ""))
    assert [finding.value for finding in clocks._quota()] == ["1.5 cores"]
    texts["/sys/fs/cgroup/cpu.max"] = "max 100000"
    assert list(clocks._quota()) == []


def test_counts_how_often_the_cores_were_held_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path, text in {
        "cpu0/thermal_throttle/core_throttle_count": "3\n",
        "cpu1/thermal_throttle/core_throttle_count": "4\n",
        "cpu.stat": "usage_usec 51\nnr_periods 20\nnr_throttled 5\nthrottled_usec 900\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(clocks, "_CPU", tmp_path)
    monkeypatch.setattr(clocks, "_CGROUP", tmp_path)
    assert clocks.throttles() == 3 + 4 + 5


def test_names_a_governor_that_saves_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "governor", lambda: "powersave")
    (finding,) = clocks._governor()
    assert finding.value == "powersave"
    assert "performance" in finding.remedy
