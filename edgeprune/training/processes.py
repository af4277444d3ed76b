"""Several processes that train one network: which of them writes, and where they wait for each other."""

from __future__ import annotations

from accelerate import PartialState  # type: ignore[import-untyped]


def is_first() -> bool:
    """Whether this process writes what all of them have made."""
    return bool(PartialState().is_main_process)


def wait_for_all() -> None:
    """Go on when every process has come this far."""
    PartialState().wait_for_everyone()


def count() -> int:
    """Return how many processes train together."""
    return int(PartialState().num_processes)
