"""An NVIDIA graphics card through NVML, the library that nvidia-smi is made of; it comes with the driver.

Through ctypes, so that a device needs no package for it, and because starting nvidia-smi takes longer than a reading
may. Functions whose arguments never changed (nvml.h), and what a card does not support is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
from ctypes import byref, c_int, c_uint, c_ulonglong, c_void_p
from typing import Any, Dict, Iterator, List, Optional, Type

from edgeprune.errors import MissingError
from edgeprune.targets.accelerators import Reading
from edgeprune.targets.clocks import Finding

_SM, _MEMORY = 1, 2
_GPU_SENSOR = 0
_INSUFFICIENT_SIZE = 7  # its answer to a list without room, where there are processes
_TEXT_BYTES = 96
# NVML's bits for why clocks are not higher; idle (1), the user's own setting (2) and displays (0x100) don't count.
_HELD_BACK = {
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


class _Memory(ctypes.Structure):
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class Nvml:
    """One card; see `accelerators.Accelerator`.

    Args:
        bus_id: of the card, as CUDA says it: the two count their devices differently.
        library: a loaded libnvidia-ml; found by itself when None.

    Raises:
        MissingError: no such library or card.
    """

    def __init__(self, bus_id: str, library: Any = None) -> None:
        self._library = _loaded() if library is None else library
        self._device = c_void_p()
        for name, arguments in (
            ("nvmlInit_v2", ()),
            ("nvmlDeviceGetHandleByPciBusId_v2", (bus_id.encode(), byref(self._device))),
        ):
            status = getattr(self._library, name)(*arguments)
            if status:
                raise MissingError(f"{name} returned {status}", remedy="nvidia-smi shows whether the driver works")

    def hardware(self) -> Dict[str, str]:
        """Return the card, its driver and its limits; see `Accelerator.hardware`."""
        memory, limit = _Memory(), self._number("nvmlDeviceGetEnforcedPowerLimit")
        if self._status("nvmlDeviceGetMemoryInfo", self._device, byref(memory)):
            memory.total = 0
        found = {
            "gpu": self._text("nvmlDeviceGetName", self._device),
            "driver": self._text("nvmlSystemGetDriverVersion"),
            "gpu_memory_mib": str(memory.total >> 20) if memory.total else "",
            "gpu_power_limit_w": f"{limit / 1000:g}" if limit else "",
            "gpu_max_mhz": str(self._number("nvmlDeviceGetMaxClockInfo", _SM) or ""),
            "gpu_memory_max_mhz": str(self._number("nvmlDeviceGetMaxClockInfo", _MEMORY) or ""),
            "mig": self._mig(),
        }
        return {key: value for key, value in found.items() if value}

    def findings(self) -> List[Finding]:
        """Return what makes times less repeatable; see `Accelerator.findings`."""
        return list(self._findings())

    def unlocked(self) -> str:
        """Return nothing: a card does not say whether its clocks are locked, only readings show whether they move."""
        return ""

    def read(self) -> Reading:
        """Read clock, temperature, power and what holds the clocks back; see `Accelerator.read`."""
        milliwatts = self._number("nvmlDeviceGetPowerUsage")
        reasons = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", kind=c_ulonglong) or 0
        return Reading(
            mhz=self._number("nvmlDeviceGetClockInfo", _SM),
            celsius=self._number("nvmlDeviceGetTemperature", _GPU_SENSOR),
            watts=None if milliwatts is None else milliwatts / 1000,
            held_back=tuple(text for bit, text in _HELD_BACK.items() if reasons & bit),
        )

    def _findings(self) -> Iterator[Finding]:
        most, now = self._number("nvmlDeviceGetMaxClockInfo", _SM), self._number("nvmlDeviceGetClockInfo", _SM)
        if most and now is not None:
            yield Finding(
                "a run is certified only if the clocks stand still",
                f"{now} of {most} MHz now",
                f"sudo nvidia-smi -lgc {most},{most} (and -rgc afterwards)",
            )
        if self._number("nvmlDeviceGetPersistenceMode", kind=c_int) == 0:
            yield Finding("the driver is unloaded between programs", "persistence mode is off", "sudo nvidia-smi -pm 1")
        count = c_uint(0)
        status = self._status("nvmlDeviceGetComputeRunningProcesses", self._device, byref(count), None)
        if status == _INSUFFICIENT_SIZE:
            yield Finding("other programs use the GPU", f"{count.value}", "nvidia-smi lists them")
        held = self.read().held_back
        if held:
            yield Finding("the GPU is held back", ", ".join(held), "cool it, or give it more power")

    def _mig(self) -> str:
        current, pending = c_uint(), c_uint()
        status = self._status("nvmlDeviceGetMigMode", self._device, byref(current), byref(pending))
        return "" if status else "on" if current.value else "off"

    def _number(self, name: str, *arguments: int, kind: Type[Any] = c_uint) -> Optional[int]:
        """Return the number that a function of the card gives, None where the card has none."""
        value = kind()
        return None if self._status(name, self._device, *arguments, byref(value)) else int(value.value)

    def _text(self, name: str, *arguments: Any) -> str:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        return "" if self._status(name, *arguments, text, _TEXT_BYTES) else text.value.decode(errors="replace")

    def _status(self, name: str, *arguments: Any) -> int:
        return int(getattr(self._library, name)(*arguments))


def _loaded() -> Any:
    for name in ("libnvidia-ml.so.1", "libnvidia-ml.so"):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise MissingError("libnvidia-ml.so is not there", remedy="install NVIDIA's driver")
