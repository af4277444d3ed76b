"""A board with TensorRT in this process: the stand-ins of its bindings and of CUDA, and a GPU that stands still."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeprune.latency import worker
from edgeprune.runtimes import cudart, tensorrt
from edgeprune.runtimes.tensorrt_plans import PlanCache
from edgeprune.targets.accelerators import Reading
from edgeprune.targets.agent import perform
from edgeprune.targets.clocks import CpuTimes
from edgeprune.targets.device import Answer
from edgeprune.targets.host import _result
from tests.standins.cuda import Gpu
from tests.standins.tensorrt import install


class Board:
    """An accelerator that stands still, or does not."""

    held_back: tuple[str, ...] = ()

    def hardware(self) -> dict[str, str]:
        return {"l4t": "36.4.3"}

    def findings(self) -> list[Any]:
        return []

    def unlocked(self) -> str:
        return ""

    def read(self) -> Reading:
        return Reading(mhz=918.0, held_back=self.held_back)


def install_board(version: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Make this process one that runs on a board with that version of TensorRT."""
    gpu, found = Gpu(), Board()
    install(version, gpu, folder / "site")
    monkeypatch.syspath_prepend(str(folder / "site"))
    monkeypatch.setattr(cudart, "load_library", gpu.library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(tensorrt, "_PLANS", PlanCache())
    monkeypatch.setattr(worker, "_KEPT", {})
    monkeypatch.setattr(worker, "find_accelerator", lambda: found)
    monkeypatch.setattr(CpuTimes, "others_since", lambda self, before: 0.0)  # what else runs here decides nothing
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    del sys.modules["tensorrt"]
    return found


class InProcess:
    """A device that does what is called in this process."""

    name = "ssh://board"

    def call(
        self, function: str, arguments: Mapping[str, Any], files: Mapping[str, bytes | Path], timeout_s: float
    ) -> Answer:
        with tempfile.TemporaryDirectory() as scratch:
            given, out = Path(scratch, "in"), Path(scratch, "out")
            given.mkdir()
            out.mkdir()
            for name, content in files.items():
                assert isinstance(content, bytes)
                (given / name).write_bytes(content)
            paths = {name: str(given / name) for name in files}
            answer = perform({"function": function, "arguments": dict(arguments), "paths": paths, "out": str(out)})
            written = {path.name: path.read_bytes() for path in out.iterdir()}
            return Answer(_result(answer), written)

    def clean(self) -> int:
        return 0

    def close(self) -> None: ...

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None: ...
