"""A device that has too little memory: the system kills what loads a model."""

from __future__ import annotations

import os
import signal


def describe(arguments: object, files: object, out: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
