"""Several processes that train one network: which of them writes, and where they wait for each other."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import parse_flag_from_env  # type: ignore[import-untyped]

_USE_CPU = "ACCELERATE_USE_CPU"


def is_first() -> bool:
    """Whether this process writes what all of them have made."""
    return bool(_state().is_main_process)


def wait_for_all() -> None:
    """Go on when every process has come this far."""
    _state().wait_for_everyone()


def count() -> int:
    """Return how many processes train together."""
    return int(_state().num_processes)


def _state() -> PartialState:
    # Unless it is told of the CPU, each of several processes there takes itself for the only one: PartialState by an
    # argument, every Accelerator that comes after it by the variable.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available():
        os.environ.setdefault(_USE_CPU, "true")
    return PartialState(cpu=parse_flag_from_env(_USE_CPU))
