"""An NVIDIA Jetson: its power mode, clocks, temperatures and over-current alarms, from files and NVIDIA's tools.

Written from NVIDIA's documentation and from what the tools print on JetPack 5 and 6; nobody has run it on a board yet.
Names of files differ from board to board, so each is looked for, and what is not there is left out.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Union

from edgeprune.targets.accelerators import Reading
from edgeprune.targets.clocks import Finding

LOCK = "sudo jetson_clocks"
_GPU = re.compile(r"gpu|ga10b|gv11b|gp10b|gb10b")
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
_MODE = re.compile(r"NV Power Mode: *(\S.*)\s+(\d+)")
_CLOCK = re.compile(r"^(\w+) MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=(\d+)(?: FreqOverride=(\d+))?", re.MULTILINE)
_LOAD = re.compile(r"GR3D_FREQ (\d+)%")
_MEMORY = re.compile(r"RAM (\d+)/(\d+)MB")
_TEMPERATURE = re.compile(r"(\w+)@(-?[\d.]+)C")
_POWER = re.compile(r"(\w+) (\d+)mW/(\d+)mW")
_OLDEST_L4T = 35
_BUSY = 5
_TOOL_S = 5.0


class Jetson:
    """The board that this runs on; see `accelerators.Accelerator`.

    Args:
        root: where its files are, for tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def present(self) -> bool:
        """Say whether this is a Jetson."""
        return bool(self._text("etc/nv_tegra_release"))

    def hardware(self) -> Dict[str, str]:
        """Return the release, power mode and the clocks that it allows; see `Accelerator.hardware`."""
        gpu = self._gpu()
        found = {
            "l4t": self.release(),
            "power_mode": self.power_mode(),
            "gpu_max_mhz": _mhz(self._text(gpu / "max_freq")) if gpu else "",
            "emc_max_mhz": _mhz(self._shown().get("EMC", {}).get("max", "")),
        }
        return {key: value for key, value in found.items() if value}

    def findings(self) -> List[Finding]:
        """Return what makes times less repeatable; see `Accelerator.findings`."""
        return list(self._findings())

    def unlocked(self) -> str:
        """Return whether clocks may move: jetson_clocks sets their least to their most; see `Accelerator.unlocked`."""
        gpu = self._gpu()
        if gpu is None:
            return "the files of the GPU's clock are not there"
        low, high = self._text(gpu / "min_freq"), self._text(gpu / "max_freq")
        if low != high:
            return f"the GPU's clock is free to move between {_mhz(low)} and {_mhz(high)} MHz ({LOCK} locks it)"
        if self._shown().get("EMC", {}).get("override") == "0":
            return f"the memory's clock is free to move ({LOCK} locks it)"
        return ""

    def read(self) -> Reading:
        """Read clock, temperature, power and alarms; see `Accelerator.read`."""
        gpu = self._gpu()
        hertz = self._text(gpu / "cur_freq") if gpu else ""
        return Reading(
            mhz=int(hertz) / 1e6 if hertz.isdigit() else None,
            celsius=max(self.temperatures().values(), default=None),
            watts=self._watts(),
            held_back=tuple(self._held_back()),
            events=sum(_number(self._text(path)) for path in self._files("sys/class/hwmon/*/oc*_event_cnt")),
        )

    def release(self) -> str:
        """Return the version of L4T, NVIDIA's Linux for these boards."""
        found = _RELEASE.search(self._text("etc/nv_tegra_release"))
        return f"{found.group(1)}.{found.group(2)}" if found else ""

    def power_mode(self) -> str:
        """Return the power mode's name and number, such as `15W (2)`, or nothing where nvpmodel does not say."""
        return read_power_mode(_output("nvpmodel", "-q"))

    def temperatures(self) -> Dict[str, float]:
        """Return degrees Celsius by sensor; one that is switched off shows a number below zero or nothing."""
        found = {}
        for zone in self._files("sys/class/thermal/thermal_zone*"):
            text = self._text(zone / "temp")
            if text.isdigit():
                found[self._text(zone / "type") or zone.name] = int(text) / 1000
        return found

    def _findings(self) -> Iterator[Finding]:
        release = self.release()
        if release and int(release.partition(".")[0]) < _OLDEST_L4T:
            yield Finding("this JetPack's Python is older than 3.8", f"L4T {release}", "install JetPack 5 or later")
        free = self.unlocked()
        if free:
            yield Finding("clocks are not locked: nothing can be certified", free, LOCK)
        mode = self.power_mode()
        if mode and not mode.startswith("MAXN"):
            yield Finding(
                "the power mode caps clocks", mode, "sudo nvpmodel -m NUMBER (nvpmodel -p --verbose lists them)"
            )
        held = list(self._held_back())
        if held:
            yield Finding("the board is held back", ", ".join(held), "cool it; use its own power supply")
        seen = read_tegrastats(_first_line("tegrastats", "--interval", "100"))
        if seen.get("gpu_load", 0) > _BUSY:
            yield Finding("other programs use the GPU", f"{seen['gpu_load']:.0f}%", "end them")
        if "free_mb" in seen:
            yield Finding("memory that the GPU shares", f"{seen['free_mb']:.0f} MB free", "")

    def _gpu(self) -> Optional[Path]:
        """Return the folder of the GPU's clock; its name is an address and a chip, or gpu."""
        folders = [path for path in self._files("sys/class/devfreq/*") if _GPU.search(path.name)]
        return folders[0] if folders else None

    def _held_back(self) -> Iterator[str]:
        for path in self._files("sys/class/hwmon/*/curr*_*_alarm"):
            if self._text(path) == "1":
                name = path.name.split("_")[0]
                rail = self._text(path.with_name(f"{name.replace('curr', 'in')}_label")) or name
                yield f"over-current on {rail}"
        for path in self._files("sys/class/thermal/cooling_device*"):
            kind = self._text(path / "type")
            if "throttle" in kind and _number(self._text(path / "cur_state")):
                yield kind

    def _watts(self) -> Optional[float]:
        """Return the power of the first rail, which is the board's: millivolts times milliamperes."""
        for label in self._files("sys/class/hwmon/*/in*_label"):
            if self._text(label) in ("VDD_IN", "VIN", "VIN_SYS_5V0", "VDD_GPU_SOC"):
                volts = self._text(label.with_name(label.name.replace("_label", "_input")))
                amperes = self._text(label.with_name(label.name.replace("in", "curr", 1).replace("_label", "_input")))
                if volts.isdigit() and amperes.isdigit():
                    return int(volts) * int(amperes) / 1e6
        return None

    def _shown(self) -> Dict[str, Dict[str, str]]:
        """Return what `jetson_clocks --show` says, where this process may ask it."""
        allowed = hasattr(os, "geteuid") and os.geteuid() == 0
        return read_jetson_clocks(_output("jetson_clocks", "--show")) if allowed else {}

    def _files(self, pattern: str) -> List[Path]:
        return sorted(self._root.glob(pattern))

    def _text(self, path: Union[str, Path]) -> str:
        try:
            return (self._root / path).read_text(errors="replace").strip()
        except OSError:
            return ""


def read_power_mode(output: str) -> str:
    """Return name and number from what `nvpmodel -q` prints."""
    found = _MODE.search(output)
    return f"{found.group(1).strip()} ({found.group(2)})" if found else ""


def read_jetson_clocks(output: str) -> Dict[str, Dict[str, str]]:
    """Return least, most and present clock in Hz, and the override of the memory's, from `jetson_clocks --show`."""
    names = ("min", "max", "current", "override")
    return {name: dict(zip(names, (text or "" for text in rest))) for name, *rest in _CLOCK.findall(output)}


def read_tegrastats(line: str) -> Dict[str, float]:
    """Return GPU load in per cent, free memory in MB, degrees and mW by sensor: what of it the line has."""
    found: Dict[str, float] = {}
    load, memory = _LOAD.search(line), _MEMORY.search(line)
    if load:
        found["gpu_load"] = float(load.group(1))
    if memory:
        found["free_mb"] = float(memory.group(2)) - float(memory.group(1))
    found.update({f"{name.lower()}_c": float(value) for name, value in _TEMPERATURE.findall(line)})
    found.update({f"{name.lower()}_mw": float(now) for name, now, _ in _POWER.findall(line)})
    return found


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_TOOL_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _first_line(*command: str) -> str:
    """Return the first line of a tool that goes on until it is stopped; nothing where it prints none."""
    if shutil.which(command[0]) is None:
        return ""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    try:
        ready, _, _ = select.select([process.stdout], [], [], _TOOL_S)
        return process.stdout.readline().decode(errors="replace") if ready else ""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _mhz(hertz: str) -> str:
    return str(int(hertz) // 1_000_000) if hertz.isdigit() else ""


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
