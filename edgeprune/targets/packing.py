"""What is sent to a device, packed into one file that its Python runs: the agent and the modules that it needs."""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

DEVICE_SIDE = (
    "__init__",
    "artifacts/__init__",
    "artifacts/contents",
    "errors",
    "latency/__init__",
    "latency/measure",
    "latency/pace",
    "latency/rule",
    "latency/measurement",
    "latency/worker",
    "records",
    "runtimes/*",
    "targets/__init__",
    "targets/accelerators",
    "targets/agent",
    "targets/cache",
    "targets/clocks",
    "targets/frames",
    "targets/jetson",
    "targets/nvml",
    "targets/peer",
    "units",
    "verification/__init__",
    "verification/numerics",
    "verification/onboard",
    "verification/verdict",
)
"""Modules that run on a device: Python 3.8, the standard library, numpy and the device's own runtime."""

_PACKAGE = Path(__file__).parents[1]
_MAIN = "from edgeprune.targets.agent import serve_from_file\n\nserve_from_file()\n"
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def device_files() -> list[Path]:
    """Return the files of `DEVICE_SIDE`, in order."""
    return sorted({path for pattern in DEVICE_SIDE for path in _PACKAGE.glob(f"{pattern}.py")})


@functools.cache
def packed_agent() -> bytes:
    """Return the file; equal sources give equal bytes."""
    contents = {path.relative_to(_PACKAGE.parent).as_posix(): path.read_bytes() for path in device_files()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"__main__.py": _MAIN.encode(), **contents}.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def starter() -> str:
    """Return the program that takes the packed agent in on the device."""
    return (_PACKAGE / "targets" / "starter.py").read_text(encoding="utf-8")
