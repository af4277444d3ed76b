"""Set up what is missing, then run every check: `python3 tools/check.py [PYTEST ARGUMENTS]`.

All checks run even when one fails; the exit code is that of the first that did. Tests run two at a time, each in one
thread; `-n 0` runs them one after the other, as those need that measure by the real clock (`-m slow`).
"""

from __future__ import annotations

import os
import sys

from bootstrap import call, ready, ready_program

if __name__ == "__main__":
    python = ready("dev")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ready_program("sshd", "openssh-server")
    ready_program("chromium", "chromium", needed=False)
    codes = [
        call(python, "-m", "ruff", "check", "."),
        call(python, "-m", "ruff", "format", "--check", "."),
        call(python, "-m", "mypy"),
        call(python, "-m", "pytest", "-n", "2", "--dist", "loadfile", *sys.argv[1:]),
    ]
    sys.exit(next((code for code in codes if code), 0))
