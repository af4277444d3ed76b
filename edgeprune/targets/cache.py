"""The one folder that EdgePrune keeps on a device: files by their hash, and what is being worked on.

    agent-DIGEST.pyz     the agent
    files/DIGEST         a file that was sent; DIGEST.part while it is not whole
    work-PROCESS-*/      the files of a call, gone when it ends
    tensorrt/*.timing    how long TensorRT's tactics take (runtimes/tensorrt_plans.py)

A file that was sent once need not be sent again, and one that was cut off goes on where it stopped. What was not used
for longest goes first when there is too much.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO, Dict, Iterable, Iterator, Mapping

from edgeprune.errors import DeviceError, InputError

KEEP_BYTES = 1 << 30
"""So much is kept at most, besides the files of the present call."""

_LOCK_LIMIT_S = 30.0
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Cache:
    """A folder of files by hash.

    Args:
        folder: made when missing.
        keep_bytes: so much is kept at most, besides what is being used.
    """

    def __init__(self, folder: Path, keep_bytes: int = KEEP_BYTES) -> None:
        self.folder = folder
        self._files = folder / "files"
        self._keep_bytes = keep_bytes
        self._files.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def lacks(self, sizes: Mapping[str, int]) -> Dict[str, int]:
        """Return which of the files, digest -> size, are not here, with the bytes that are; make room for them.

        Raises:
            DeviceError: the disk has no room for them.
        """
        here = {digest: self._path(digest) for digest in sizes}
        for path in here.values():
            with contextlib.suppress(OSError):
                os.utime(str(path))
        lacking = {digest: _size(_part(path)) for digest, path in here.items() if not path.is_file()}
        lacking = {digest: there if there <= sizes[digest] else 0 for digest, there in lacking.items()}
        self._make_room(sum(sizes[digest] - size for digest, size in lacking.items()), set(sizes))
        return lacking

    def store(self, digest: str, start: int, blocks: Iterable[bytes]) -> None:
        """Write a file's bytes from `start` on; once all have come, it is in the cache.

        Raises:
            DeviceError: what came does not have that hash, or another agent is at it. OSError: the disk is full.
        """
        path = self._path(digest)
        part = _part(path)
        with open(str(part), "ab", buffering=0) as target, _locked(target):
            if path.is_file():  # another agent was faster
                return
            target.truncate(start)
            try:
                for block in blocks:
                    _write(target, block)
            except OSError:
                part.unlink()  # a full disk is not left full
                raise
            if digest_of(part) != digest:
                part.unlink()
                raise DeviceError(f"a file arrived damaged: its hash is not {digest}", remedy="try again")
            os.replace(str(part), str(path))

    def lend(self, digest: str, path: Path) -> None:
        """Let `path` be the file as well, so that it stays while it is used.

        Raises:
            DeviceError: it is not in the cache.
        """
        here = self._path(digest)
        if not here.is_file():
            raise DeviceError(f"the file {digest} is not on the device any more", remedy="try again")
        try:
            os.link(str(here), str(path))
        except OSError:
            shutil.copyfile(str(here), str(path))  # a file system without links

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """Yield a folder for one call, gone at the end."""
        with tempfile.TemporaryDirectory(prefix=f"work-{os.getpid()}-", dir=str(self.folder)) as folder:
            yield Path(folder)

    def clean(self) -> int:
        """Remove everything that no running call works with; return the bytes that were freed."""
        freed = 0
        for path in [*self._files.iterdir(), *self.folder.glob("agent-*"), *self.folder.glob("tensorrt/*")]:
            size = _size(path)
            with contextlib.suppress(FileNotFoundError):  # another agent was faster
                path.unlink()
                freed += size
        self._sweep()
        return freed

    def _path(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise InputError(f"{digest!r} is no SHA-256", remedy="this is a bug; please report it")
        return self._files / digest

    def _make_room(self, needed: int, used: Iterable[str]) -> None:
        spared = {name for digest in used for name in (digest, f"{digest}.part")}
        old = sorted((path for path in self._files.iterdir() if path.name not in spared), key=_age)
        kept = sum(map(_size, old))
        while old and (kept > self._keep_bytes or self._free() < needed):
            kept -= _size(old[0])
            with contextlib.suppress(OSError):
                old[0].unlink()
            del old[0]
        free = self._free()
        if free < needed:
            raise DeviceError(
                f"{self.folder} on the device has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed",
                remedy="make room on the device, or set XDG_CACHE_HOME there to a larger disk",
            )

    def _free(self) -> int:
        return shutil.disk_usage(str(self.folder)).free

    def _sweep(self) -> None:
        """Remove what calls left behind whose agent was killed."""
        for folder in self.folder.glob("work-*"):
            process = folder.name.split("-")[1]
            if not process.isdigit() or not _runs(int(process)):
                shutil.rmtree(str(folder), ignore_errors=True)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    found = hashlib.sha256()
    with open(str(path), "rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


@contextlib.contextmanager
def _locked(target: IO[bytes]) -> Iterator[None]:
    """Keep other agents, which may serve other hosts, away from a file."""
    until = time.monotonic() + _LOCK_LIMIT_S
    while True:
        try:
            fcntl.flock(target.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > until:
                raise DeviceError("another run is sending the same file", remedy="try again when it is done") from None
            time.sleep(0.2)
    yield


def _write(target: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[target.write(view) :]


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
