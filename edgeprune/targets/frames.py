"""Frames: JSON and files over a pair of pipes, every wait with a limit where one is asked for.

A frame is 4 bytes (length of the header, big-endian), the header (a JSON object), then the files that the header lists
under `files` as [name, size] pairs, one after the other.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

PROTOCOL = "edgeprune-agent/2"
BLOCK_BYTES = 1 << 20
_HEADER_MAX_BYTES = 64 << 20

Json = Dict[str, Any]
Sizes = List[Tuple[str, int]]


class Closed(Exception):
    """The other end of a stream is gone."""


class Late(Exception):
    """Nothing came, or nothing was taken, within the time allowed."""


class Stream:
    """Frames over a pair of file descriptors.

    Args:
        reading: descriptor to read from.
        writing: descriptor to write to; one that does not block where there is a `stall_s`.
        stall_s: so long a frame that has begun may stand still; None waits for ever.
    """

    def __init__(self, reading: int, writing: int, stall_s: Optional[float] = None) -> None:
        self._reading = reading
        self._writing = writing
        self._stall_s = stall_s
        self._unread = 0

    def send(self, header: Mapping[str, Any], files: Optional[Mapping[str, Union[bytes, Path]]] = None) -> None:
        """Send one frame; `files` are contents, or paths that are read as it goes.

        Raises:
            Closed: nobody reads. Late: what is sent is not taken.
        """
        files = files or {}
        sizes = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in files.items()}
        self.begin(header, sizes)
        for one in files.values():
            if isinstance(one, bytes):
                self.write(one)
            else:
                self.write_file(one)

    def begin(self, header: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Send the header of a frame; the contents of its files must follow, by `write`. Raises as `send` does."""
        text = json.dumps({**header, "files": list(sizes.items())}).encode()
        self.write(struct.pack(">I", len(text)) + text)

    def write_file(self, path: Path, start: int = 0) -> None:
        """Send the content of a file from byte `start` on. Raises as `send` does."""
        with open(str(path), "rb") as source:
            source.seek(start)
            for block in iter(lambda: source.read(BLOCK_BYTES), b""):
                self.write(block)

    def write(self, data: bytes) -> None:
        """Send bytes that belong to a frame that was begun. Raises as `send` does."""
        view = memoryview(data)
        while view:
            if self._stall_s is not None and not select.select([], [self._writing], [], self._stall_s)[1]:
                raise Late(f"nothing was taken for {self._stall_s:g} s")
            try:
                view = view[os.write(self._writing, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Closed(str(error)) from None

    def header(self, deadline: Optional[float] = None) -> Tuple[Json, Sizes]:
        """Wait for the header of one frame; its files must be read next, by `blocks`.

        Args:
            deadline: time.monotonic() at which to give up; None waits for ever.

        Raises:
            Closed: the stream ended. Late: the deadline passed. ValueError: what came is no frame.
        """
        start = self._read(4, deadline)
        size = struct.unpack(">I", start)[0]
        if size > _HEADER_MAX_BYTES:
            raise ValueError(f"{start!r} is not the start of a frame of {PROTOCOL}")
        text = self._read(size, deadline)
        try:
            header = json.loads(text.decode())
            sizes = [(str(name), int(length)) for name, length in header.pop("files")]
            if any(length < 0 for _, length in sizes):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{text[:40]!r} is not the header of a frame of {PROTOCOL}") from None
        self._unread = sum(size for _, size in sizes)
        return header, sizes

    def blocks(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes of a frame's files as they come. Raises as `header` does."""
        while size:
            block = self._read_some(size, self._soon())
            size -= len(block)
            self._unread -= len(block)
            yield block

    def skip(self) -> None:
        """Read what is left of a frame's files, so that the next frame is found. Raises as `header` does."""
        for _ in self.blocks(self._unread):
            pass

    def receive(self, folder: Path, deadline: Optional[float] = None) -> Tuple[Json, Dict[str, Path]]:
        """Wait for one frame; its files go into `folder`. Raises as `header` does."""
        header, sizes = self.header(deadline)
        return header, self.save(sizes, folder)

    def save(self, sizes: Sizes, folder: Path) -> Dict[str, Path]:
        """Write the files of a frame into `folder`, numbered, so that no name that is sent can lead outside it."""
        files = {}
        for index, (name, size) in enumerate(sizes):
            files[name] = numbered(folder, index, name)
            with open(str(files[name]), "wb") as target:
                for block in self.blocks(size):
                    target.write(block)
        return files

    def receive_bytes(self, deadline: Optional[float] = None) -> Tuple[Json, Dict[str, bytes]]:
        """Wait for one frame; its files stay in memory. Raises as `header` does."""
        header, sizes = self.header(deadline)
        return header, {name: b"".join(self.blocks(size)) for name, size in sizes}

    def _soon(self) -> Optional[float]:
        return None if self._stall_s is None else time.monotonic() + self._stall_s

    def _read(self, size: int, deadline: Optional[float]) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += self._read_some(size - len(data), deadline)
        return bytes(data)

    def _read_some(self, size: int, deadline: Optional[float]) -> bytes:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reading], [], [], left)[0]:
                raise Late("nothing came")
        block = os.read(self._reading, min(size, BLOCK_BYTES))
        if not block:
            raise Closed("end of stream")
        return block


def numbered(folder: Path, index: int, name: str) -> Path:
    """Return where the file that was sent as `name` is kept: the runtimes look at the suffix."""
    return folder / f"{index}{Path(name).suffix}"
