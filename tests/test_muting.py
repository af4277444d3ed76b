from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time

import pytest

from edgeprune.muting import muted, muted_stdout

CHATTER = """
import ctypes, os
from edgeprune.muting import muted_stdout
c_library = ctypes.CDLL(None)
print("before")
c_library.printf(b"ours\\n")
with muted_stdout():
    c_library.printf(b"chatter\\n")
    os.write(1, b"more of it\\n")
print("after")
"""
CLOSED = """
import os, sys
from edgeprune.muting import muted_stdout
os.close(1)
with muted_stdout():
    print("done", file=sys.stderr)
"""


def test_what_a_library_prints_is_kept_out_and_nothing_else() -> None:
    """To a pipe C's library writes when its buffer is flushed, which may be much later."""
    done = subprocess.run([sys.executable, "-c", CHATTER], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == ["after", "before", "ours"]


def test_a_closed_output_is_no_error() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSED], stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr.startswith("done")


def test_output_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), muted_stdout():
        raise ValueError("no")
    print("here")
    assert capfd.readouterr().out == "here\n"


def test_threads_take_turns_so_that_the_output_comes_back() -> None:
    """Two that overlap would each give back what the other one had put there."""
    before, inside = sys.stdout, threading.Barrier(2)

    def mute() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            inside.wait(timeout=5)
        with muted():
            time.sleep(0.05)

    threads = [threading.Thread(target=mute) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sys.stdout is before
    assert logging.root.manager.disable == logging.NOTSET
