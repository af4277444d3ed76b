"""How long-running steps report progress: a protocol, so that lower layers need not know of a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import ContextManager, Iterator, Optional, Protocol


class Step(Protocol):
    """One running step."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Say that `amount` more units are done; `note` replaces the text behind the bar."""


class Progress(Protocol):
    """Where progress is shown."""

    def step(self, what: str, total: Optional[int] = None) -> ContextManager[Step]:
        """Open a step of `total` units, or of an unknown amount when `total` is None."""

    def say(self, line: str) -> None:
        """Show one line that stays."""


class _SilentStep:
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Show nothing."""


class Silent:
    """Progress that shows nothing."""

    @contextmanager
    def step(self, what: str, total: Optional[int] = None) -> Iterator[Step]:
        yield _SilentStep()

    def say(self, line: str) -> None:
        """Show nothing."""


SILENT: Progress = Silent()
