"""A Jetson as a tree of files and what its tools print (JetPack 5.1 and 6.2); no board was here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.targets import jetson
from edgeprune.targets.jetson import Jetson, read_jetson_clocks, read_power_mode, read_tegrastats

RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"
)
GPU = "sys/class/devfreq/17000000.gpu"
NVPMODEL = "NV Power Mode: 15W\n2\n"
NVPMODEL_5 = "NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_30W\n3\n"
CLOCKS = """SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
Online CPUs: 0-5
cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=1510400 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=624750000 CurrentFreq=306000000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0
NV Power Mode: 15W
"""
TEGRASTATS = (
    "11-21-2026 20:15:01 RAM 2573/7620MB (lfb 7x4MB) SWAP 0/3810MB (cached 0MB) CPU [3%@1510,0%@1510,off,off,0%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 37%@[611] NVDEC off cpu@47.5C soc2@46.031C soc0@45.9C gpu@47.8C tj@47.8C soc1@46.6C "
    "VDD_IN 4841mW/4800mW VDD_CPU_GPU_CV 763mW/750mW VDD_SOC 1446mW/1440mW\n"
)
TEGRASTATS_4 = (
    "RAM 1903/3964MB (lfb 190x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [14%@102,10%@102,off,off] "
    "EMC_FREQ 0% GR3D_FREQ 0% PLL@23C CPU@25.5C PMIC@100C GPU@25C AO@31C thermal@25.25C\n"
)


def tree(root: Path, **changes: str) -> Jetson:
    files = {
        "etc/nv_tegra_release": RELEASE,
        f"{GPU}/cur_freq": "611000000",
        f"{GPU}/min_freq": "624750000",
        f"{GPU}/max_freq": "624750000",
        "sys/class/devfreq/15340000.vic/cur_freq": "115200000",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "47500",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone1/temp": "48250",
        "sys/class/thermal/thermal_zone2/type": "cv0-thermal",
        "sys/class/thermal/thermal_zone2/temp": "-256000",
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": "1",
        "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert",
        "sys/class/thermal/cooling_device1/cur_state": "0",
        "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
        "sys/class/hwmon/hwmon1/in1_input": "5000",
        "sys/class/hwmon/hwmon1/curr1_input": "968",
        "sys/class/hwmon/hwmon1/curr1_crit_alarm": "0",
        "sys/class/hwmon/hwmon1/curr1_max_alarm": "0",
        "sys/class/hwmon/hwmon4/oc1_event_cnt": "2",
        "sys/class/hwmon/hwmon4/oc3_event_cnt": "1",
        **changes,
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return Jetson(root)


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    printed = {"nvpmodel": NVPMODEL, "jetson_clocks": CLOCKS.replace("FreqOverride=0", "FreqOverride=1")}
    monkeypatch.setattr(jetson, "_output", lambda *command: printed.get(command[0], ""))
    monkeypatch.setattr(jetson, "_first_line", lambda *command: TEGRASTATS)
    monkeypatch.setattr(jetson.os, "geteuid", lambda: 0)
    return printed


def test_another_machine_is_no_jetson(tmp_path: Path) -> None:
    assert not Jetson(tmp_path).present()
    assert Jetson(tmp_path).hardware() == {"power_mode": "15W (2)", "emc_max_mhz": "2133"}
    assert Jetson(tmp_path).read().mhz is None


def test_what_it_is(tmp_path: Path) -> None:
    board = tree(tmp_path)
    assert board.present()
    assert board.hardware() == {
        "l4t": "36.4.3",
        "power_mode": "15W (2)",
        "gpu_max_mhz": "624",
        "emc_max_mhz": "2133",
    }


def test_a_reading(tmp_path: Path) -> None:
    reading = tree(tmp_path).read()
    assert reading.mhz == 611
    assert reading.celsius == 48.25
    assert reading.watts == pytest.approx(5.000 * 0.968)
    assert reading.held_back == ()
    assert reading.events == 3


def test_locked_means_that_the_least_is_the_most(tmp_path: Path) -> None:
    assert tree(tmp_path / "locked").unlocked() == ""
    free = tree(tmp_path / "free", **{f"{GPU}/min_freq": "306000000"}).unlocked()
    assert "between 306 and 624 MHz" in free
    assert "sudo jetson_clocks" in free


def test_the_memory_clock_counts_where_it_can_be_asked_for(tmp_path: Path, tools: dict[str, str]) -> None:
    tools["jetson_clocks"] = CLOCKS
    assert "memory" in tree(tmp_path).unlocked()


def test_alarms_and_throttling_are_said(tmp_path: Path) -> None:
    board = tree(
        tmp_path,
        **{
            "sys/class/hwmon/hwmon1/curr1_crit_alarm": "1",
            "sys/class/thermal/cooling_device1/cur_state": "1",
        },
    )
    assert board.read().held_back == ("over-current on VDD_IN", "gpu-throttle-alert")


def test_findings_name_the_command_and_change_nothing(tmp_path: Path) -> None:
    board = tree(tmp_path, **{f"{GPU}/min_freq": "306000000"})
    found = {finding.what: finding for finding in board.findings()}
    assert found["clocks are not locked: nothing can be certified"].remedy == "sudo jetson_clocks"
    assert found["the power mode caps clocks"].value == "15W (2)"
    assert found["other programs use the GPU"].value == "37%"
    assert found["memory that the GPU shares"].value == "5047 MB free"


def test_a_jetpack_that_is_too_old_is_said(tmp_path: Path) -> None:
    old = RELEASE.replace("R36", "R32").replace("4.3", "7.1")
    found = tree(tmp_path, **{"etc/nv_tegra_release": old}).findings()
    assert found[0].value == "L4T 32.7.1"


@pytest.mark.parametrize(
    ("output", "mode"),
    [
        (NVPMODEL, "15W (2)"),
        (NVPMODEL_5, "MODE_30W (3)"),
        ("NV Power Mode: MAXN\n0", "MAXN (0)"),
        ("", ""),
        ("root", ""),
    ],
)
def test_reads_nvpmodel(output: str, mode: str) -> None:
    assert read_power_mode(output) == mode


def test_reads_jetson_clocks() -> None:
    assert read_jetson_clocks(CLOCKS) == {
        "GPU": {"min": "306000000", "max": "624750000", "current": "306000000", "override": ""},
        "EMC": {"min": "204000000", "max": "2133000000", "current": "2133000000", "override": "0"},
    }


def test_reads_tegrastats_of_several_releases() -> None:
    new, old = read_tegrastats(TEGRASTATS), read_tegrastats(TEGRASTATS_4)
    assert (new["gpu_load"], new["free_mb"], new["gpu_c"], new["vdd_in_mw"]) == (37, 5047, 47.8, 4841)
    assert (old["gpu_load"], old["free_mb"], old["gpu_c"]) == (0, 2061, 25)
    assert read_tegrastats("no such tool") == {}


def test_tools_that_fail_or_hang_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in {
        "good": "echo line; sleep 60",
        "bad": "echo no; exit 1",
        "ready": "echo one; echo two",
        "silent": "exec sleep 60",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    assert jetson._first_line("good") == "line\n"
    monkeypatch.setattr(jetson, "_TOOL_S", 0.1)
    assert jetson._first_line("silent") == ""
    monkeypatch.setattr(jetson, "_TOOL_S", 5.0)
    assert jetson._output("bad") == ""
    assert jetson._output("ready") == "one\ntwo\n"
    assert jetson._output("absent") == jetson._first_line("absent") == ""
