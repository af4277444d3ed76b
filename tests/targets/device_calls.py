"""What the tests let a device do. Runs there: Python 3.8, the standard library, `edgeprune.errors`."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.errors import BudgetError


def echo(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    for name, path in files.items():
        (out / f"{name}.back").write_bytes(path.read_bytes()[::-1])
    suffixes = [path.suffix for path in files.values()]
    return {"arguments": arguments, "pid": os.getpid(), "agent": os.getppid(), "suffixes": suffixes}


def measure(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    return {name: [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in files.items()}


def versions(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    return {"python": sys.version_info[:2], "edgeprune": sys.modules["edgeprune"].__file__}


def fill_the_disk(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    with open("/dev/full", "wb") as full:
        full.write(b"does not fit")
    return {}


def use_all_memory(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    return {"more than there is": len(bytearray(1 << 62))}


def end_agent(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Kill the agent; only so often as `times` says, counted in the file `note`."""
    note = Path(arguments["note"])
    done = len(note.read_text()) if note.exists() else 0
    if done < arguments["times"]:
        note.write_text("x" * (done + 1))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    return {"killed": done}


def print_a_lot(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    print("noise from Python", flush=True)
    os.write(1, b"noise from C\n")
    subprocess.run([sys.executable, "-c", "print('noise from a child')"], check=True)
    return {}


def scratch(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return {"folder": folder}


def refuse(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    raise BudgetError("under the floor: 3 ms", remedy="ask for more")


def stumble(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    raise KeyError("absent")


def answer_nonsense(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    return {"not JSON": object()}


def die(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    os.kill(os.getpid(), arguments.get("signal", signal.SIGKILL))
    return {}


def leave(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    os._exit(3)


def hang(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    if "note" in arguments:
        Path(arguments["note"]).write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def disturb(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write into the agent's stream to the host: the first thing that it opened."""
    Path(f"/proc/{os.getppid()}/fd/3").write_bytes(b"noise on the wire")
    return {}
