"""How a run that has no result ends: one line on stderr, an object on stdout with --json, and the exit code."""

from __future__ import annotations

import errno
import shlex
import sys
import traceback
from collections.abc import Sequence

import typer

from edgeprune.cli.output import is_spoken_for, print_json
from edgeprune.errors import EdgePruneError, InputError, InterruptedRun

_DISK_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
_NO_MEMORY = "can't allocate memory"
"""Torch's words where a tensor on the CPU finds no room: it raises a RuntimeError then."""

_PATH_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}


def tell(error: BaseException, arguments: Sequence[str], *, as_json: bool, debug: bool) -> int:
    """Tell a person, and with `as_json` a program, how the run with these `arguments` ended; return the exit code."""
    known = foreseen(error, arguments)
    if debug or known.exit_code == 1:
        traceback.print_exception(error)
    if as_json and not is_spoken_for():
        print_json(
            {
                "schema": "edgeprune.error/1",
                "error": type(known if known.exit_code != 1 else error).__name__,
                "message": known.message,
                "remedy": known.remedy,
                "exit_code": known.exit_code,
            }
        )
    print(_line(known), file=sys.stderr)  # noqa: T201
    return known.exit_code


def foreseen(error: BaseException, arguments: Sequence[str]) -> EdgePruneError:
    """Return `error` as one of ours."""
    if isinstance(error, (KeyboardInterrupt, InterruptedRun)):
        resumable = getattr(error, "resumable", True)
        return InterruptedRun("interrupted", remedy=continue_with(arguments, resumable=resumable))
    if isinstance(error, EdgePruneError):
        return error
    if isinstance(error, typer.TyperException):
        # The parser knows how far it came: `edgeprune`, or `edgeprune export`.
        command = getattr(getattr(error, "ctx", None), "command_path", "edgeprune")
        message = _one_line(error.format_message()).removesuffix(".")
        return InputError(message, remedy=f"`{command} --help` lists what there is")
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS | _PATH_ERRORS:
        where = f"{error.filename}: " if error.filename else ""
        first = "make room or change permissions, or " if error.errno in _DISK_ERRORS else ""
        return InputError(f"{where}{error.strerror}", remedy=f"{first}choose another path")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _NO_MEMORY in str(error):
        return InputError(
            "the memory is not enough: networks, data and batches of images have to fit into it",
            remedy="see what else runs (edgeprune doctor), give smaller images, or a folder in place of an .npz",
        )
    text = _one_line(str(error)) or "no message"
    return EdgePruneError(f"{type(error).__name__}: {text}", remedy="this is a bug; please report it with the trace")


def continue_with(arguments: Sequence[str], *, resumable: bool = True) -> str:
    """Return how the run with these arguments is taken up again: `resumable`, or from its start."""
    if not resumable or not {"export", "train"} & set(arguments) or "--dry-run" in arguments:
        return f"run it again: {shlex.join(['edgeprune', *arguments])}"
    kept = [word for word in arguments if word not in ("--force", "--resume")]
    return f"continue with: {shlex.join(['edgeprune', *kept, '--resume'])}"


def _line(error: EdgePruneError) -> str:
    start = "" if isinstance(error, InterruptedRun) else "error: "
    return f"{start}{_one_line(error.message)}" + (f"; {_one_line(error.remedy)}" if error.remedy else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
