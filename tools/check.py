"""Set up what is missing, then run every check: `python3 tools/check.py [PYTEST ARGUMENTS]`.

All checks run even when one fails; the exit code is that of the first that did.
"""

from __future__ import annotations

import sys

from bootstrap import call, ready, ready_program

if __name__ == "__main__":
    python = ready("dev")
    ready_program("sshd", "openssh-server")
    ready_program("chromium", "chromium", needed=False)
    codes = [
        call(python, "-m", "ruff", "check", "."),
        call(python, "-m", "ruff", "format", "--check", "."),
        call(python, "-m", "mypy"),
        call(python, "-m", "pytest", *sys.argv[1:]),
    ]
    sys.exit(next((code for code in codes if code), 0))
