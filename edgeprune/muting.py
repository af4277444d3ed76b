"""Libraries that talk too much, kept from the terminal: at Python's level, or below it.

What `--json` prints is read by machines, so nothing else may come out there.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator

_STDOUT = 1
_STDOUT_IN_TURN = threading.Lock()
_MUTED_IN_TURN = threading.RLock()


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keep a library's prints, log lines and warnings from the terminal; its exceptions still pass.

    What it changes belongs to the whole process, so threads take turns.
    """
    with _MUTED_IN_TURN:
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(level)


@contextlib.contextmanager
def muted_stdout() -> Iterator[None]:
    """Send standard output nowhere for a while, below Python, also where it is buffered by C's library.

    HiGHS 1.12 needs it: whatever its options say, it prints a line of its own debugging whenever it repairs a solution
    (github.com/ERGO-Code/HiGHS/issues/2783).
    """
    c_library = ctypes.CDLL(None)
    with _STDOUT_IN_TURN:
        try:
            saved = os.dup(_STDOUT)
        except OSError:  # closed: there is nothing to keep clean
            yield
            return
        c_library.fflush(None)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDOUT)
        os.close(nowhere)
        try:
            yield
        finally:
            c_library.fflush(None)
            os.dup2(saved, _STDOUT)
            os.close(saved)
