"""What is kept of TensorRT's builds: engines while the process lives, and for later ones how long tactics take."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

from edgeprune.records import write_bytes
from edgeprune.runtimes.cudart import CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS, Cuda
from edgeprune.runtimes.tensorrt_build import Built, merged

_KEPT_BYTES = 256 << 20


@dataclass(frozen=True)
class Kept:
    """An engine, and what a session reports of how it was built."""

    built: Built
    report: Dict[str, str]


class PlanCache:
    """Engines by model and precision, the last used up to 256 MiB, so that what is measured is what was built.

    Two builds of one model differ: without this the engine that is timed would not be the one that is shipped, which is
    kept however large it is.
    """

    def __init__(self) -> None:
        self._kept: Dict[Tuple[str, str], Kept] = {}
        self._shipped: Optional[Tuple[str, str]] = None

    def ship(self, onnx: bytes, precision: str) -> None:
        """Keep the engine of a model until that of another one is shipped."""
        self._shipped = _key(onnx, precision)

    def get(self, onnx: bytes, precision: str) -> Optional[Kept]:
        """Return the engine of a model, if it was built here."""
        found = self._kept.get(_key(onnx, precision))
        return self.keep(onnx, precision, found) if found else None

    def keep(self, onnx: bytes, precision: str, kept: Kept) -> Kept:
        """Keep an engine, in place of an older one of the same model."""
        newest = _key(onnx, precision)
        self._kept.pop(newest, None)
        self._kept[newest] = kept
        for old in [one for one in self._kept if one not in (newest, self._shipped)]:
            if sum(len(one.built.plan) for one in self._kept.values()) > _KEPT_BYTES:
                del self._kept[old]
        return kept


class TimingCache:
    """The file in which one device's TensorRT keeps how long its tactics take, so that builds are short and alike.

    Args:
        version: of TensorRT; times of another one don't count, nor those of another GPU or driver.
        cuda: of the device.
    """

    def __init__(self, version: str, cuda: Cuda) -> None:
        numbers = [cuda.attribute(one) for one in (CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS)]
        key = hashlib.sha256(repr([version, numbers, cuda.versions()]).encode()).hexdigest()[:12]
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.path = Path(home) / "edgeprune" / "tensorrt" / f"{key}.timing"

    def read(self) -> bytes:
        """Return what is there, or nothing."""
        try:
            return self.path.read_bytes()
        except OSError:
            return b""

    def write(self, timings: bytes) -> None:
        """Keep the times of a build that began with those that are there: it has them all."""
        if timings:
            write_bytes(self.path, timings)

    def add(self, timings: bytes) -> None:
        """Add the times of a build that began without."""
        if timings:
            write_bytes(self.path, merged(self.read(), timings))


def _key(onnx: bytes, precision: str) -> Tuple[str, str]:
    return hashlib.sha256(onnx).hexdigest(), precision
