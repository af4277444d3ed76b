"""Where a verb's words go: stdout carries the result and nothing else, stderr the rest."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Protocol

from edgeprune.cli.options import Common
from edgeprune.progress import SILENT, Progress
from edgeprune.records import json_text


class Result(Protocol):
    """What a call into the pipeline returns."""

    @property
    def exit_code(self) -> int:
        """The exit code of the interface."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""


@dataclass(frozen=True)
class Printed:
    """A result whose object is made already."""

    content: dict[str, Any]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return self.content


@contextmanager
def running(options: Common) -> Iterator[Progress]:
    """Yield the progress that `options` ask for; what libraries print or warn of meanwhile stays off stdout."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        if not options.verbose:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.callback(logging.disable, logging.root.manager.disable)
            logging.disable(logging.WARNING)
        if options.quiet or is_spoken_for():
            yield SILENT
        else:
            from edgeprune.report.terminal import terminal_progress  # rich takes a while to import

            yield stack.enter_context(terminal_progress())


def is_spoken_for() -> bool:
    """Say whether this is another than the first of several processes: that one shows and answers for all."""
    return os.environ.get("RANK", "0") != "0"


def finish(options: Common, result: Result) -> int:
    """Print `result` on stdout, as JSON or as text, and return its exit code."""
    content = result.to_json()
    try:
        if options.json:
            print_json(content)
        else:
            from edgeprune.report.text import print_result

            print_result(content, sys.stdout, verbose=options.verbose)
        sys.stdout.flush()
    except BrokenPipeError:
        stop_writing()
    return result.exit_code


def print_json(content: Mapping[str, Any]) -> None:
    """Print one object on stdout; NaN and infinity, which JSON does not have, become null."""
    print(json_text(content))  # noqa: T201


def stop_writing() -> int:
    """Write no more on stdout, whose reader (head, a pager) has seen enough; return the exit code for that."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (Python flushes stdout again at its end)
    return 0


def reserve_stdout() -> None:
    """Keep the process's stdout for the result: what a library's C code prints to it goes to stderr instead."""
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors="replace")
