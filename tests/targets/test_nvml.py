"""NVML as a library of C functions made of Python ones, each with its prototype from nvml.h."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_uint, c_ulonglong, c_void_p
from typing import Any

import pytest

from edgeprune.errors import MissingError
from edgeprune.targets.nvml import Nvml

NOT_SUPPORTED, INSUFFICIENT_SIZE, NOT_FOUND = 3, 7, 6
BUS = "0000:65:00.0"


class Memory(ctypes.Structure):
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class Card:
    """libnvidia-ml with one card; `numbers` are what its functions give, None what it does not support."""

    def __init__(self, **changes: int | None) -> None:
        self.numbers: dict[str, int | None] = {
            "EnforcedPowerLimit": 450_000,
            "PowerUsage": 120_500,
            "PersistenceMode": 1,
            "CurrentClocksThrottleReasons": 0,
            "Processes": 0,
            **changes,
        }
        self.kept: list[Any] = []
        for name, kind in (("EnforcedPowerLimit", c_uint), ("PowerUsage", c_uint), ("PersistenceMode", c_int)):
            self._define(f"nvmlDeviceGet{name}", self._number(name), c_void_p, POINTER(kind))
        self._define(
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            self._number("CurrentClocksThrottleReasons"),
            c_void_p,
            POINTER(c_ulonglong),
        )
        self._define("nvmlInit_v2", lambda: 0)
        self._define("nvmlDeviceGetHandleByPciBusId_v2", self._handle, c_char_p, POINTER(c_void_p))
        self._define("nvmlDeviceGetName", self._name, c_void_p, c_void_p, c_uint)
        self._define("nvmlSystemGetDriverVersion", self._driver, c_void_p, c_uint)
        self._define("nvmlDeviceGetMaxClockInfo", self._clock({1: 2520, 2: 10501}), c_void_p, c_uint, POINTER(c_uint))
        self._define("nvmlDeviceGetClockInfo", self._clock({1: 2505}), c_void_p, c_uint, POINTER(c_uint))
        self._define("nvmlDeviceGetTemperature", self._clock({0: 55}), c_void_p, c_uint, POINTER(c_uint))
        self._define("nvmlDeviceGetMemoryInfo", self._memory, c_void_p, c_void_p)
        self._define(
            "nvmlDeviceGetMigMode", lambda *arguments: NOT_SUPPORTED, c_void_p, POINTER(c_uint), POINTER(c_uint)
        )
        self._define("nvmlDeviceGetComputeRunningProcesses", self._processes, c_void_p, POINTER(c_uint), c_void_p)

    def _define(self, name: str, function: Callable[..., int], *arguments: Any) -> None:
        setattr(self, name, CFUNCTYPE(c_int, *arguments)(function))

    def _number(self, name: str) -> Callable[[int, Any], int]:
        def give(device: int, value: Any) -> int:
            number = self.numbers[name]
            if number is None:
                return NOT_SUPPORTED
            value[0] = number
            return 0

        return give

    def _clock(self, known: dict[int, int]) -> Callable[[int, int, Any], int]:
        def give(device: int, which: int, value: Any) -> int:
            if which not in known:
                return NOT_SUPPORTED
            value[0] = known[which]
            return 0

        return give

    def _handle(self, bus: bytes, device: Any) -> int:
        if bus.decode() != BUS:
            return NOT_FOUND
        device[0] = 4711
        return 0

    def _name(self, device: int, text: int, size: int) -> int:
        assert device == 4711
        ctypes.memmove(text, b"NVIDIA GeForce RTX 4090\0", 24)
        return 0

    def _driver(self, text: int, size: int) -> int:
        ctypes.memmove(text, b"570.86.15\0", 10)
        return 0

    def _memory(self, device: int, memory: int) -> int:
        Memory.from_address(memory).total = 24 << 30
        return 0

    def _processes(self, device: int, count: Any, found: int) -> int:
        count[0] = self.numbers["Processes"]
        return INSUFFICIENT_SIZE if self.numbers["Processes"] else 0


def test_what_it_is() -> None:
    assert Nvml(BUS, Card()).hardware() == {
        "gpu": "NVIDIA GeForce RTX 4090",
        "driver": "570.86.15",
        "gpu_memory_mib": "24576",
        "gpu_power_limit_w": "450",
        "gpu_max_mhz": "2520",
        "gpu_memory_max_mhz": "10501",
    }


def test_a_reading() -> None:
    reading = Nvml(BUS, Card()).read()
    assert (reading.mhz, reading.celsius, reading.watts, reading.held_back) == (2505, 55, 120.5, ())


def test_a_card_that_does_not_say_is_left_out() -> None:
    card = Card(PowerUsage=None, EnforcedPowerLimit=None)
    assert Nvml(BUS, card).read().watts is None
    assert "gpu_power_limit_w" not in Nvml(BUS, card).hardware()


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (0x1 | 0x2 | 0x100, ()),  # idle, clocks that the user has set, a display: nothing holds it back
        (0x4, ("power limit",)),
        (0x8 | 0x40, ("hardware slowdown", "hardware thermal slowdown")),
        (0x20 | 0x80, ("thermal slowdown", "power brake")),
    ],
)
def test_what_holds_it_back(bits: int, said: tuple[str, ...]) -> None:
    assert Nvml(BUS, Card(CurrentClocksThrottleReasons=bits)).read().held_back == said


def test_findings_name_the_command_and_change_nothing() -> None:
    found = {one.what: one for one in Nvml(BUS, Card(PersistenceMode=0, Processes=2)).findings()}
    assert found["a run is certified only if the clocks stand still"].remedy.startswith(
        "sudo nvidia-smi -lgc 2520,2520"
    )
    assert found["the driver is unloaded between programs"].remedy == "sudo nvidia-smi -pm 1"
    assert found["other programs use the GPU"].value == "2"


def test_a_card_that_is_not_there() -> None:
    with pytest.raises(MissingError, match="returned 6"):
        Nvml("0000:01:00.0", Card())
