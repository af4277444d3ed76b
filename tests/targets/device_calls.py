"""What test_agent.py and test_local.py let a device do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.errors import BudgetError


def echo(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    for name, path in files.items():
        (out / f"{name}.back").write_bytes(path.read_bytes()[::-1])
    return {"arguments": arguments, "pid": os.getpid(), "suffixes": [path.suffix for path in files.values()]}


def print_a_lot(arguments: dict[str, Any], files: Mapping[str, Path], out: Path) -> dict[str, Any]:
    print("noise from Python", flush=True)
    os.write(1, b"noise from C\n")
    subprocess.run([sys.executable, "-c", "print('noise from a child')"], check=True)
    return {}


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
