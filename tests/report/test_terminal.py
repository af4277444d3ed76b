from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from edgeprune.report.terminal import SIGN_OF_LIFE_S, LineProgress, LiveProgress, _lines, terminal_progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_step_is_one_line(stream: io.StringIO, clock: Clock) -> None:
    progress = LineProgress(stream, clock)
    with progress.step("trace"):
        assert stream.getvalue() == "trace ...", "said before it is done"
        clock.now += 42
    progress.say("7 groups")
    assert stream.getvalue() == "trace ... took 42 s\n7 groups\n"


def test_steps_within_a_step(stream: io.StringIO, clock: Clock) -> None:
    progress = LineProgress(stream, clock)
    with progress.step("profile"):
        with progress.step("build"):
            clock.now += 10
        clock.now += 5
    assert stream.getvalue() == "profile ...\nbuild ... took 10 s\nprofile: took 15 s\n"


def test_a_step_that_fails_says_so(stream: io.StringIO, clock: Clock) -> None:
    progress = LineProgress(stream, clock)

    def fail() -> None:
        with progress.step("train"):
            clock.now += 3
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert stream.getvalue() == "train ... stopped after 3.0 s\n"


def test_a_long_step_gives_a_sign_of_life_now_and_then(stream: io.StringIO, clock: Clock) -> None:
    progress = LineProgress(stream, clock)
    with progress.step("train", total=5) as step:
        for batch in range(5):
            clock.now += SIGN_OF_LIFE_S / 2
            step.advance(note=f"loss {batch}")
    assert stream.getvalue() == (
        "train ...\n  train: 2 of 5; loss 1\n  train: 4 of 5; loss 3\ntrain: took 1 min 15 s\n"
    )


def test_a_long_step_that_counts_nothing_gives_a_sign_of_life(stream: io.StringIO, clock: Clock) -> None:
    progress = LineProgress(stream, clock)
    with progress.step("export"), progress.step("build"):
        clock.now += SIGN_OF_LIFE_S - 1
        progress.sign_of_life()
        clock.now += 1
        progress.sign_of_life()
        progress.sign_of_life()
        clock.now += SIGN_OF_LIFE_S
        progress.sign_of_life()
    assert stream.getvalue() == (
        "export ...\nbuild ...\n  build: running for 30 s\n  build: running for 1 min 00 s\n"
        "build: took 1 min 00 s\nexport: took 1 min 00 s\n"
    )


def test_the_signs_of_life_come_by_themselves(stream: io.StringIO) -> None:
    with _lines(stream, period_s=0.02) as progress:
        with progress.step("short"):
            pass
        with progress.step("build"):
            until = time.monotonic() + 10
            while "running" not in stream.getvalue() and time.monotonic() < until:
                time.sleep(0.01)
    assert re.fullmatch(
        r"short \.\.\. took .*\nbuild \.\.\.\n(  build: running for .*\n)+build: took .*\n", stream.getvalue()
    )


def test_live_steps_leave_one_line_each(stream: io.StringIO) -> None:
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    with Bars(console=console, transient=True, auto_refresh=False) as bars:
        progress = LiveProgress(bars)
        with progress.step("profile [1]", total=2) as step:
            (task,) = bars.tasks
            step.advance(note="[odd] note")
            assert (task.completed, task.total) == (1, 2)
            with progress.step("build"):
                assert [task.total for task in bars.tasks] == [2, None]
        assert not bars.tasks
    shown = stream.getvalue()
    assert re.search(r"profile \[1\]: took \d", shown)
    assert re.search(r"build: took \d", shown)


@pytest.mark.parametrize(
    ("kind", "environment"),
    [
        (LineProgress, {"FORCE_COLOR": "", "TERM": "xterm"}),
        (LiveProgress, {"FORCE_COLOR": "1", "TERM": "xterm"}),
        (LineProgress, {"FORCE_COLOR": "1", "TERM": "dumb"}),
    ],
)
def test_bars_are_for_terminals_that_can(
    kind: type, environment: dict[str, str], stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with terminal_progress(stream) as progress:
        assert isinstance(progress, kind)
        with progress.step("trace", total=3) as step:
            step.advance()
    assert "trace" in stream.getvalue()
