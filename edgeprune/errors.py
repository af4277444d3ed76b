"""What can go wrong, and the exit code that each of them means.

    EdgePruneError                 1  a bug, or something nobody foresaw
    ├── InputError                 2  wrong usage or input
    ├── MissingError               3  a dependency or a device is not there
    ├── BudgetError                4  the budget is under the floor
    ├── OverBudgetError            5  measured over the budget
    ├── AccuracyError              6  accuracy below the floor that was asked for
    ├── NumericsError              7  two forms of one network give different outputs
    ├── TableError                 8  latency table missing, stale or of another fingerprint
    └── InterruptedRun           130  stopped by Ctrl-C

A message says what happened and shows the value seen; `remedy` says what to do next.
"""

from __future__ import annotations

import difflib
from typing import Iterable


class EdgePruneError(Exception):
    """Base of every error that EdgePrune raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class InputError(EdgePruneError):
    exit_code = 2


class MissingError(EdgePruneError):
    exit_code = 3


class DeviceError(MissingError):
    """The device was there, and then died, hung or stopped answering."""


class UnreachableError(DeviceError):
    """There is no such device in reach from here: nothing was tried on it."""


class BudgetError(EdgePruneError):
    exit_code = 4


class OverBudgetError(EdgePruneError):
    exit_code = 5


class AccuracyError(EdgePruneError):
    exit_code = 6


class NumericsError(EdgePruneError):
    exit_code = 7


class TableError(EdgePruneError):
    exit_code = 8


class InterruptedRun(EdgePruneError):
    exit_code = 130
    resumable = True
    """Whether `--resume` takes the run up again; else the same command does."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest known name, or an empty string when none is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""
