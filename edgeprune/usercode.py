"""`FILE.py:FUNCTION`: the one way in which code of the user's own comes in."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeprune.errors import InputError, nearest


def is_function_name(text: str) -> bool:
    """Say whether `text` is meant as FILE.py:FUNCTION (or as FILE.py, the function forgotten)."""
    return text.endswith(".py") or ".py:" in text


def path_of(text: str) -> Path:
    """Return the file of FILE.py:FUNCTION, or of FILE.py alone."""
    name = text.rpartition(":")[0]
    return Path(name if name.endswith(".py") else text)


def call_function(text: str) -> Any:
    """Execute FILE.py, call its FUNCTION without arguments and return what it returns.

    The file's folder can be imported from while this runs, as it can when Python runs the file.

    Raises:
        InputError: no such file or function, or the code raised (with its file, line and exception).
    """
    path, function = path_of(text), text.rpartition(":")[2]
    if not path.is_file():
        raise InputError(f"{path} does not exist", remedy="check the path in FILE.py:FUNCTION")
    if path == Path(text):
        raise InputError(f"{text} does not say which function to call", remedy=f"write it like {text}:FUNCTION")
    with _importable(path.resolve().parent):
        module = _guarded(path, lambda: _execute(path))
        found = getattr(module, function, None)
        if not callable(found):
            public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise InputError(f"{path} has no function {function!r}{nearest(function, public)}", remedy="check its name")
        return _guarded(path, found)


def _execute(path: Path) -> ModuleType:
    # Two files of one name in two folders are two modules.
    name = f"edgeprune_user_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # it and its loader are there for every path that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and loader processes look their module up by name
    spec.loader.exec_module(module)
    return module


def _guarded(path: Path, call: Callable[[], Any]) -> Any:
    """Turn what the user's code raises into one line that says where."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise InputError(told(path, error), remedy="fix the file") from error


def told(path: Path, error: BaseException) -> str:
    """Return in one line what the user's code raised, and where in its file."""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}{': ' + lines[0] if lines else ''}"
    if lines and "in DataLoader worker process" in lines[0]:  # torch has put that process's trace before the reason
        said = lines[-1]
    return f"{_line_in(path, error)} raised {said}"


def _line_in(path: Path, error: BaseException) -> str:
    """Return FILE:LINE of the innermost line of the user's file that took part."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    own = path.resolve()
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == own
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let code import what lies beside it; also later, when it runs, but then after all that is installed."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
