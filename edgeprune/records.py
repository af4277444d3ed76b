"""Versioned JSON and JSON lines, written so that a kill at any moment leaves the old file or the new one."""

from __future__ import annotations

import json
import math
import os
import secrets
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Union

from edgeprune.errors import InputError

PathLike = Union[str, "os.PathLike[str]"]


def write_bytes(path: PathLike, content: bytes) -> None:
    """Replace the file at `path` in one step; its folder is made if missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are for their owner alone, and what is shipped should be as readable as any other file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(str(temporary), str(path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_readable(path: PathLike) -> None:
    """Give a file that a library wrote for its owner alone the mode of any other new file."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


def write_json(path: PathLike, schema: str, content: Mapping[str, Any]) -> None:
    """Write `content` as an object whose first key, `schema`, names kind and version, such as `edgeprune.plan/1`."""
    write_bytes(path, (json_text({"schema": schema, **content}) + "\n").encode())


def json_text(content: Mapping[str, Any]) -> str:
    """Return an object as JSON; NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)


def schema_of(path: PathLike) -> str:
    """Return the schema of an object that `write_json` wrote; empty where the file is another one, or not there."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("schema", "")) if isinstance(content, dict) else ""


def read_json(path: PathLike, schema: str) -> dict[str, Any]:
    """Read an object that `write_json` wrote with the same `schema`.

    Raises:
        InputError: no such file, not JSON, or of another schema.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", remedy="check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}", remedy="check the path") from None
    found = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or found != schema:
        raise InputError(
            f"{path} has schema {found!r}, not {schema!r}", remedy="use a file written by this version of edgeprune"
        )
    return content


def append_lines(path: PathLike, records: Iterable[Mapping[str, Any]]) -> None:
    """Append one JSON object a line; one write, so that a kill tears at most the last line."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    block = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    with open(path, "ab") as stream:
        if stream.tell() and not _ends_with_newline(path):
            block = b"\n" + block
        stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())


def read_lines(path: PathLike) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file; a torn line (a kill during a write) is passed over."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
