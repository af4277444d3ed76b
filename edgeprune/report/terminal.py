"""Progress for a person: live bars and spinners on a terminal, plain lines elsewhere. All of it goes to stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from edgeprune.progress import Progress, Step
from edgeprune.units import format_seconds

SIGN_OF_LIFE_S = 30.0


def terminal_progress(stream: TextIO | None = None) -> AbstractContextManager[Progress]:
    """Return the progress that fits `stream` (stderr when None): live on a terminal, lines elsewhere."""
    stream = sys.stderr if stream is None else stream
    console = Console(file=stream, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return _live(console)
    return _lines(stream)


@contextmanager
def _live(console: Console) -> Iterator[Progress]:
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        _Amount(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield LiveProgress(bars)


@contextmanager
def _lines(stream: TextIO, period_s: float = SIGN_OF_LIFE_S) -> Iterator[Progress]:
    """Yield progress in lines, with a thread that speaks for steps which do not: to build an engine takes minutes."""
    progress, over = LineProgress(stream, period_s=period_s), threading.Event()

    def watch() -> None:
        while not over.wait(period_s / 10):
            progress.sign_of_life()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield progress
    finally:
        over.set()
        watcher.join()


class _Amount(ProgressColumn):
    """A bar where the amount of work is known, nothing where it is not: a bar that means nothing would be a lie."""

    _bar = BarColumn(bar_width=24)

    def render(self, task: Task) -> RenderableType:
        return self._bar.render(task) if task.total is not None else ""


class LiveProgress:
    """A bar or a spinner for each running step; a finished step leaves one line with the time it took."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Step]:
        """Open a step of `total` units, or of an unknown amount when `total` is None."""
        task = self._bars.add_task(escape(what), total=total, note="")
        started = time.monotonic()
        outcome = "stopped after"
        try:
            yield _LiveStep(self._bars, task)
            outcome = "took"
        finally:
            self._bars.remove_task(task)
            self.say(f"{what}: {outcome} {format_seconds(time.monotonic() - started)}")

    def say(self, line: str) -> None:
        """Show one line that stays above the bars."""
        self._bars.console.print(line, markup=False, soft_wrap=True)


class _LiveStep:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Say that `amount` more units are done; `note` replaces the text behind the bar."""
        self._bars.update(self._task, advance=amount, note=escape(note))


class LineProgress:
    """One line a step, for logs and dumb terminals; a long step gives a sign of life now and then.

    Args:
        stream: where the lines go.
        clock: seconds since any moment.
        period_s: how long nothing is said, at most, while `sign_of_life` is called now and then.
    """

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic, period_s: float = SIGN_OF_LIFE_S
    ) -> None:
        self.clock = clock
        self._stream = stream
        self._period_s = period_s
        self._spoke = clock()
        self._running: list[_LineStep] = []
        self._unfinished: str | None = None  # the step whose line still waits for its time
        self._lock = threading.RLock()

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Step]:
        """Open a step of `total` units, or of an unknown amount when `total` is None."""
        step = _LineStep(self, what, total)
        with self._lock:
            self._finish_line()
            self._write(f"{what} ...")
            self._unfinished = what
            self._running.append(step)
        outcome = "stopped after"
        try:
            yield step
            outcome = "took"
        finally:
            self._end(step, f"{outcome} {step.spent()}")

    def say(self, line: str) -> None:
        """Show one line."""
        with self._lock:
            self._finish_line()
            self._write(f"{line}\n")

    def sign_of_life(self, step: _LineStep | None = None) -> None:
        """Say how far a step is, the innermost one by default, where nothing was said for a while."""
        with self._lock:
            step = step or (self._running[-1] if self._running else None)
            if step is not None and self.clock() - self._spoke >= self._period_s:
                self.say(f"  {step.state()}")

    def _end(self, step: _LineStep, spent: str) -> None:
        with self._lock:
            self._running.remove(step)
            if self._unfinished == step.what:
                self._write(f" {spent}\n")
                self._unfinished = None
            else:
                self.say(f"{step.what}: {spent}")

    def _finish_line(self) -> None:
        if self._unfinished is not None:
            self._write("\n")
            self._unfinished = None

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
        self._spoke = self.clock()


class _LineStep:
    def __init__(self, lines: LineProgress, what: str, total: int | None) -> None:
        self.what = what
        self._lines = lines
        self._total = total
        self._done = 0
        self._note = ""
        self._started = lines.clock()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more units, and say so when nothing was said for a while."""
        self._done += amount
        self._note = note
        self._lines.sign_of_life(self)

    def state(self) -> str:
        """Return what is done, where that is counted, else for how long the step has run."""
        if not self._done:
            return f"{self.what}: running for {self.spent()}"
        done = f"{self._done} of {self._total}" if self._total is not None else f"{self._done}"
        return f"{self.what}: {done}{'; ' + self._note if self._note else ''}"

    def spent(self) -> str:
        """Return how long the step has run, in words."""
        return format_seconds(self._lines.clock() - self._started)
