"""The state of the machine that decides whether a time can be trusted: load, cores, clocks, heat, limits.

Everything here is read, nothing is changed, and what a system does not offer is left out.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Collection, Iterator, Mapping, Sequence

_CPU = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")
_ISA = (
    "sse4_2",
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "asimd",
    "asimddp",
    "bf16",
    "sve",
)
_IDLE = 0.6
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01


@dataclass(frozen=True)
class Finding:
    """One fact about the machine that makes times less repeatable, and the command that would mend it."""

    what: str
    value: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return JSON-ready data that `from_json` reads back."""
        return {"what": self.what, "value": self.value, "remedy": self.remedy}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """Rebuild a finding from `to_json` data."""
        return cls(str(data["what"]), str(data["value"]), str(data["remedy"]))


@dataclass(frozen=True)
class CpuTimes:
    """A reading of the clocks of some cores and of this process, in seconds.

    Attributes:
        busy_s: time that these cores together spent on anything, time taken by a hypervisor included; None where the
            system does not say.
        own_s: processor time of this process, all threads.
        at_s: when it was read.
    """

    busy_s: float | None
    own_s: float
    at_s: float

    @classmethod
    def now(cls, cores: Collection[int] = ()) -> CpuTimes:
        """Read the clocks of `cores`, which this process does not leave; of all of them by default."""
        times = _core_times()
        busy_s = sum(busy for core, (busy, _) in times.items() if core in cores or not cores) if times else None
        return cls(busy_s, time.process_time(), time.perf_counter())

    def others_since(self, before: CpuTimes) -> float:
        """Return how many cores other programs kept busy since `before`, on average; 0 where nothing is known."""
        if self.busy_s is None or before.busy_s is None:
            return 0.0
        others_s = (self.busy_s - before.busy_s) - (self.own_s - before.own_s)
        return max(0.0, others_s / max(self.at_s - before.at_s, _TICK_S))


def allowed_cores() -> list[int]:
    """Return the cores that this process may run on, or every core where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def quietest_cores(cores: Sequence[int], watch_s: float = 0.05) -> list[int]:
    """Return the cores that are idle over the next `watch_s`, the least busy one where none is.

    Where cores differ in strength, only the strongest come into question, however busy.
    """
    strongest = max(map(_capacity, cores))
    cores = [core for core in cores if _capacity(core) == strongest]
    if len(cores) == 1:
        return cores
    before = _core_times()
    time.sleep(watch_s)
    after = _core_times()
    idle = {core: after[core][1] - before[core][1] for core in cores if core in after and core in before}
    ordered = sorted(cores, key=lambda core: (-idle.get(core, 0.0), -core))
    return [core for core in ordered if idle.get(core, 0.0) >= _IDLE * watch_s] or ordered[:1]


@contextmanager
def keep_affinity() -> Iterator[None]:
    """Give the calling thread its cores back at the end."""
    cores = allowed_cores()
    try:
        yield
    finally:
        pin(cores)


def pin(cores: Sequence[int]) -> None:
    """Bind the calling thread to `cores`, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def hardware() -> dict[str, str]:
    """Return what this machine is: cpu, isa, cores, arch, os; the part of a fingerprint that names no runtime."""
    fields = _cpu_fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    board = _text("/proc/device-tree/model").strip("\x00")
    found = {
        "cpu": fields.get("model name") or fields.get("Hardware") or platform.processor() or platform.machine(),
        "cpu_model": "-".join(fields[key] for key in ("cpu family", "model", "stepping") if key in fields),
        "isa": " ".join(name for name in _ISA if name in flags),
        "cores": str(len(allowed_cores())),
        "smt": _text(_CPU / "smt/active"),
        "arch": platform.machine(),
        "os": platform.system(),
        "board": board,
        "governor": governor(),
        "max_mhz": _mhz(_text(_CPU / "cpu0/cpufreq/scaling_max_freq")),
    }
    return {key: value for key, value in found.items() if value}


def governor() -> str:
    """Return the clock governors of the cores, or an empty string where they cannot be read (in most VMs)."""
    return ",".join(sorted({_text(path) for path in _CPU.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}))


def throttles() -> int:
    """Return how often heat or a cgroup's quota held the cores back so far; what a system does not count is 0."""
    stats = (_text(_CGROUP / "cpu.stat"), _text(_CGROUP / "cpu/cpu.stat"))  # of version 2, of version 1
    lines = [line.partition(" ") for stat in stats for line in stat.splitlines()]
    return sum(_heat_counts()) + sum(int(count) for name, _, count in lines if name == "nr_throttled")


def findings() -> list[Finding]:
    """Return what about this machine makes times less repeatable, worst first. Watches the load for 0.2 s."""
    checks = (_load, _quota, _throttled, _governor, _boost, _smt, _affinity)
    return [finding for check in checks for finding in check()]


def _load() -> Iterator[Finding]:
    before = CpuTimes.now()
    time.sleep(0.2)
    others = CpuTimes.now().others_since(before)
    if others > 0.2:
        yield Finding("other programs run", f"{others:.1f} cores busy", "end them, or measure when they are done")


def _quota() -> Iterator[Finding]:
    quota, period = [*_text(_CGROUP / "cpu.max").split(), "max", "100000"][:2]
    if quota == "max":
        quota = _text(_CGROUP / "cpu/cpu.cfs_quota_us")
        period = _text(_CGROUP / "cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit():
        share = int(quota) / int(period)
        yield Finding("processor time is limited by a cgroup", f"{share:g} cores", "start the container without --cpus")


def _throttled() -> Iterator[Finding]:
    total = sum(_heat_counts())
    if total:
        yield Finding(
            "cores have been throttled by heat", f"{total} times since the start", "cool it and measure again"
        )


def _heat_counts() -> list[int]:
    counts = [_text(path) for path in _CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return [int(count) for count in counts if count.isdigit()]


def _governor() -> Iterator[Finding]:
    found = governor()
    if found and found != "performance":
        yield Finding("clock governor", found, "sudo cpupower frequency-set -g performance")


def _boost() -> Iterator[Finding]:
    if _text(_CPU / "cpufreq/boost") == "1":
        yield Finding("clock boost is on", "1", "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost")
    if _text(_CPU / "intel_pstate/no_turbo") == "0":
        yield Finding("clock boost is on", "1", "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo")


def _smt() -> Iterator[Finding]:
    if _text(_CPU / "smt/active") == "1":
        yield Finding("cores share their units (SMT)", "on", "echo off | sudo tee /sys/devices/system/cpu/smt/control")


def _affinity() -> Iterator[Finding]:
    allowed, present = len(allowed_cores()), os.cpu_count() or 1
    if allowed < present:
        yield Finding("this process may not use every core", f"{allowed} of {present}", "start it without taskset")


def _core_times() -> dict[int, tuple[float, float]]:
    """Return (busy, idle) seconds since the start by core, from /proc/stat; waiting for a disk counts as idle."""
    times = {}
    for line in _text("/proc/stat").splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, idle, iowait, irq, softirq, steal = (int(tick) * _TICK_S for tick in ticks[:8])
            times[int(name[3:])] = (user + nice + system + irq + softirq + steal, idle + iowait)
    return times


def _cpu_fields() -> dict[str, str]:
    first = _text("/proc/cpuinfo").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _capacity(core: int) -> int:
    """Return the relative strength of a core on machines that mix kinds, else 0."""
    text = _text(_CPU / f"cpu{core}/cpu_capacity")
    return int(text) if text.isdigit() else 0


def _mhz(khz: str) -> str:
    return str(int(khz) // 1000) if khz.isdigit() else ""


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
