"""A process that speaks frames: the agent to the host, the agent's child to the agent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import IO, Any, Optional, Sequence

from edgeprune.targets.frames import Stream

STALL_S = 60.0
"""So long a frame that has begun may stand still."""

_KILL_LIMIT_S = 10.0
_LOOK_S = 0.01


class Peer:
    """A process that speaks frames on its stdin and stdout, in a session of its own.

    Ctrl-C in a terminal reaches the program in front alone, which then ends its peers in order.

    Args:
        command: what to start.
        errors: where its stderr goes; None leaves it where this process's own goes.
    """

    def __init__(self, command: Sequence[str], errors: Optional[IO[Any]] = None) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(list(command), stdin=pipe, stdout=pipe, stderr=errors, start_new_session=True)
        assert self._process.stdin
        assert self._process.stdout
        writing = self._process.stdin.fileno()
        os.set_blocking(writing, False)
        self.reading = self._process.stdout.fileno()
        self.stream = Stream(self.reading, writing, STALL_S)

    def alive(self) -> bool:
        """Say whether the process runs. One that does not keeps its number until `end`, which kills by that number."""
        if self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self, grace_s: float) -> int:
        """Close its input, wait up to `grace_s`, then kill it and what it started, also where it has ended itself.

        Returns:
            Its exit code; that of a kill where it does not even die of one, as in a driver that hangs.
        """
        _close(self._process.stdin)
        until = time.monotonic() + grace_s
        while self.alive() and time.monotonic() < until:
            time.sleep(_LOOK_S)
        if self._process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_KILL_LIMIT_S)
        _close(self._process.stdout)
        code = self._process.returncode
        return -signal.SIGKILL if code is None else code


def _close(stream: Optional[IO[bytes]]) -> None:
    with contextlib.suppress(OSError):
        if stream:
            stream.close()
