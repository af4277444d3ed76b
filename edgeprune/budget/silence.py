"""Keep what a library prints by itself out of this process's standard output, where a machine may read `--json`."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STDOUT = 1
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def silenced() -> Iterator[None]:
    """Send standard output nowhere for a while, below Python, also where it is buffered by C's library.

    HiGHS 1.12 needs it: whatever its options say, it prints a line of its own debugging whenever it repairs a solution
    (github.com/ERGO-Code/HiGHS/issues/2783).
    """
    c_library = ctypes.CDLL(None)
    with _ONE_AT_A_TIME:
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
