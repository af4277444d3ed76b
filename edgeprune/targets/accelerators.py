"""An accelerator's clocks: what it is, what makes its times less repeatable, and whether a run can be certified.

A time counts only where the clocks stood still: locked beforehand where the system says so, the same from the first
reading to the last, and held back by nothing. Everything here is read; the commands that change clocks are printed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Dict, List, Optional, Protocol, Tuple, Type

from edgeprune.errors import EdgePruneError
from edgeprune.runtimes.cudart import Cuda
from edgeprune.targets.clocks import Finding

INTERVAL_S = 0.2
_READING_LIMIT_S = 10.0

MOVED = 0.02
"""Clocks that differ by more than this share between two readings of one run have moved."""


@dataclass(frozen=True)
class Reading:
    """What an accelerator shows at one moment; None where it does not say.

    Attributes:
        mhz: clock of its processors.
        celsius: of its hottest sensor.
        watts: that it draws.
        held_back: what lowers its clocks just now, in words.
        events: how often it was held back since it was started.
    """

    mhz: Optional[float] = None
    celsius: Optional[float] = None
    watts: Optional[float] = None
    held_back: Tuple[str, ...] = ()
    events: int = 0


class Accelerator(Protocol):
    """A GPU, as far as it can be watched."""

    def hardware(self) -> Dict[str, str]:
        """Return what it is: its part of a fingerprint, power mode and limits included."""

    def findings(self) -> List[Finding]:
        """Return what makes times on it less repeatable, each with the command that would mend it."""

    def unlocked(self) -> str:
        """Return why its clocks are free to move, with the command that locks them; empty where they are not."""

    def read(self) -> Reading:
        """Read it now."""


class Unseen:
    """An accelerator that shows nothing of itself: what runs on it can't be certified."""

    def hardware(self) -> Dict[str, str]:
        """Return nothing."""
        return {}

    def findings(self) -> List[Finding]:
        """Return that nothing is seen."""
        return [
            Finding("the GPU's clocks cannot be read", "neither NVML nor Jetson's files", "install NVIDIA's driver")
        ]

    def unlocked(self) -> str:
        """Return that this is not known."""
        return "nothing can be seen of the GPU's clocks (NVIDIA's driver brings libnvidia-ml.so)"

    def read(self) -> Reading:
        """Return a reading without numbers."""
        return Reading()


class Watch:
    """Reads an accelerator in a thread of its own for as long as the context lasts.

    Args:
        accelerator: None for a CPU, of which there is nothing to watch.
        skip_s: readings of so many first seconds don't count: clocks rise when work begins.
    """

    def __init__(self, accelerator: Optional[Accelerator], skip_s: float = 0.0) -> None:
        self._accelerator = accelerator
        self._skip_s = skip_s
        self._readings: List[Reading] = []
        self._free = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Watch:
        if self._accelerator is not None:
            self._free = self._accelerator.unlocked()
            self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(_READING_LIMIT_S)
        if self._accelerator is not None and not self._readings:
            self._readings.append(self._accelerator.read())

    def concerns(self) -> List[str]:
        """Return why what was measured meanwhile can't be certified, worst first; nothing where it can."""
        held = sorted({reason for reading in self._readings for reason in reading.held_back})
        events = [reading.events for reading in self._readings]
        clocks = self._values("mhz")
        found = []
        if held:
            found.append(f"the GPU was held back: {', '.join(held)}")
        elif events and events[-1] > events[0]:
            found.append(f"the GPU was held back {events[-1] - events[0]} times")
        if self._free:
            found.append(self._free)
        if clocks and min(clocks) < (1 - MOVED) * max(clocks):
            found.append(f"the GPU's clock moved between {min(clocks):.0f} and {max(clocks):.0f} MHz")
        return found

    @property
    def lasting(self) -> bool:
        """Whether one of the concerns does not pass by itself."""
        return bool(self._free)

    def report(self) -> Dict[str, str]:
        """Return the range of what was read."""
        found = {}
        for name, unit in (("mhz", "MHz"), ("celsius", "C"), ("watts", "W")):
            values = self._values(name)
            if values:
                low, high = f"{min(values):.4g}", f"{max(values):.4g}"
                found[f"gpu_{name}"] = f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
        return found

    def _values(self, name: str) -> List[float]:
        return [value for value in (getattr(reading, name) for reading in self._readings) if value is not None]

    def _read(self) -> None:
        assert self._accelerator is not None
        begin = time.monotonic() + self._skip_s
        while not self._done.wait(INTERVAL_S):
            if time.monotonic() >= begin:
                self._readings.append(self._accelerator.read())


def find_accelerator() -> Accelerator:
    """Return the accelerator that CUDA's first device is, as far as it can be watched."""
    from edgeprune.targets.jetson import Jetson
    from edgeprune.targets.nvml import Nvml

    board = Jetson()
    if board.present():
        return board
    try:
        return Nvml(Cuda().bus_id())
    except EdgePruneError:
        return Unseen()
