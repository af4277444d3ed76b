"""The program that runs on a device: it calls functions that the host names, and survives what they do.

    host  <-- frames on stdin/stdout -->  agent  <-- frames -->  child, which imports the runtime and does the work

The agent itself imports nothing but the standard library. The work is done in its child, so that a crash, a kill for
want of memory or a call that never ends comes back to the host as an error; the child is kept for further calls (to
import a runtime takes long) and started again when it has died. When the host goes away, both end.

Start it with `python -m edgeprune.targets.agent`, as a script, or from a zipapp; through a pipe or through ssh: nothing
but the two streams connects it with the host.

A frame is 4 bytes (length of the header, big-endian), the header (a JSON object), then the files that the header lists
under `files` as [name, size] pairs, one after the other. The first frame of an agent is its greeting,
{"agent": "edgeprune-agent/1", "python": ...}. Then the host sends calls and gets one answer for each:

    {"function": "package.module:name", "arguments": {...}, "timeout_s": seconds, "files": [...]}
    {"result": {...}, "files": [...]}  or  {"error": {"class", "message", "remedy", "trace"}, "files": []}

A function is called as name(arguments, files, out): JSON, paths by name, and a folder; it returns JSON, and the files
that it left in the folder go back. The child gets the same call with paths in place of files.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import IO, Any, Dict, Mapping, Optional, Sequence, Tuple, Union

PROTOCOL = "edgeprune-agent/1"
_HEADER_MAX_BYTES = 64 << 20
_ANSWER_LIMIT_S = 60.0
_DEATH_LIMIT_S = 10.0
_START_CHILD = "from edgeprune.targets.agent import serve_child; serve_child()"
_ROOT = str(Path(__file__).absolute().parents[2])

Json = Dict[str, Any]


class Closed(Exception):
    """The other end of a stream is gone."""


class Late(Exception):
    """Nothing came within the time allowed."""


class Stream:
    """Frames over a pair of file descriptors, every wait with a limit.

    Args:
        reading: descriptor to read from.
        writing: descriptor to write to.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing

    def send(self, header: Mapping[str, Any], files: Optional[Mapping[str, Union[bytes, Path]]] = None) -> None:
        """Send one frame; `files` are contents, or paths that are read as it goes.

        Raises:
            Closed: nobody reads.
        """
        files = files or {}
        sizes = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in files.items()}
        text = json.dumps({**header, "files": list(sizes.items())}).encode()
        self._write(struct.pack(">I", len(text)) + text)
        for one in files.values():
            if isinstance(one, bytes):
                self._write(one)
                continue
            with open(str(one), "rb") as source:
                for block in iter(lambda: source.read(1 << 20), b""):
                    self._write(block)

    def receive(self, folder: Path, deadline: Optional[float] = None) -> Tuple[Json, Dict[str, Path]]:
        """Wait for one frame; its files go into `folder`.

        Args:
            folder: where files are written, numbered, so that no name that is sent can lead outside it.
            deadline: time.monotonic() at which to give up; None waits for ever.

        Raises:
            Closed: the stream ended. Late: the deadline passed. ValueError: what came is no frame.
        """
        header = self._header(deadline)
        files = {}
        for index, (name, length) in enumerate(header.pop("files")):
            files[name] = folder / f"{index}{Path(name).suffix}"
            with open(str(files[name]), "wb") as target:
                while length:
                    block = self._read(min(length, 1 << 20), deadline)
                    target.write(block)
                    length -= len(block)
        return header, files

    def receive_bytes(self, deadline: Optional[float] = None) -> Tuple[Json, Dict[str, bytes]]:
        """Wait for one frame; its files stay in memory. Raises as `receive` does."""
        header = self._header(deadline)
        return header, {name: self._read(length, deadline) for name, length in header.pop("files")}

    def _header(self, deadline: Optional[float]) -> Json:
        size = struct.unpack(">I", self._read(4, deadline))[0]
        if size > _HEADER_MAX_BYTES:
            raise ValueError(f"a header of {size} bytes: not a frame of {PROTOCOL}")
        return dict(json.loads(self._read(size, deadline).decode()))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._writing, view) :]
            except OSError as error:
                raise Closed(str(error)) from None

    def _read(self, size: int, deadline: Optional[float]) -> bytes:
        data = bytearray()
        while len(data) < size:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._reading], [], [], left)[0]:
                    raise Late()
            block = os.read(self._reading, min(size - len(data), 1 << 20))
            if not block:
                raise Closed("end of stream")
            data += block
        return bytes(data)


class Peer:
    """A process that speaks frames on its stdin and stdout, in a session of its own.

    Ctrl-C in a terminal reaches the program in front alone, which then ends its peers in order.
    """

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(list(command), stdin=pipe, stdout=pipe, start_new_session=True)
        assert self._process.stdin
        assert self._process.stdout
        self.reading = self._process.stdout.fileno()
        self.stream = Stream(self.reading, self._process.stdin.fileno())

    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process.poll() is None

    def end(self, grace_s: float) -> int:
        """Close its input, wait up to `grace_s`, then kill it and what it started; return its exit code."""
        _close(self._process.stdin)
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        _close(self._process.stdout)
        return code


class Child:
    """The process that does the work, started when it is first needed and again when it has died."""

    def __init__(self) -> None:
        self._peer: Optional[Peer] = None

    def call(self, call: Json, files: Mapping[str, Path], out: Path, timeout_s: float, host: int) -> Json:
        """Let the child do one call.

        Args:
            call: function and arguments.
            files: what it reads.
            out: where it writes.
            timeout_s: after this the child is killed.
            host: descriptor of the stream from the host; when that ends, the child is killed.

        Returns:
            The answer, an error included.

        Raises:
            Closed: the host is gone.
        """
        function = call["function"]
        paths = {name: str(path) for name, path in files.items()}
        peer = self._started()
        try:
            peer.stream.send({**call, "paths": paths, "out": str(out)})
            _await(peer.reading, host, time.monotonic() + timeout_s)
            answer, _ = peer.stream.receive(out, time.monotonic() + _ANSWER_LIMIT_S)
            return answer
        except Late:
            self.stop()
            return _error("DeviceError", f"{function} did not finish within {timeout_s:g} s", "allow it more time")
        except (Closed, ValueError):
            if _readable(host):
                self.stop()
                raise Closed("the host is gone") from None
            code = self.stop(_DEATH_LIMIT_S)
            return _error("DeviceError", f"the process that ran {function} {_death(code)}", "free memory and try again")

    def stop(self, grace_s: float = 0.0) -> int:
        """End the child and whatever it started; return its exit code."""
        peer, self._peer = self._peer, None
        return peer.end(grace_s) if peer else 0

    def _started(self) -> Peer:
        if self._peer and not self._peer.alive():
            self.stop()
        if not self._peer:
            self._peer = Peer([sys.executable, "-c", f"import sys; sys.path.insert(0, {_ROOT!r}); {_START_CHILD}"])
        return self._peer


def serve() -> None:
    """Serve the host on stdin and stdout until it goes away."""
    stream = _own_streams()
    child = Child()
    try:
        stream.send({"agent": PROTOCOL, "python": sys.version.split()[0]})
        while True:
            select.select([0], [], [])  # an idle agent has no folder that a kill could leave behind
            with tempfile.TemporaryDirectory(prefix="edgeprune-agent-") as folder:
                _serve_one(stream, child, Path(folder))
    except Closed:
        pass
    finally:
        child.stop()


def serve_child() -> None:
    """Do what the agent passes on, until it goes away. Runs in the child."""
    stream = _own_streams()
    # Ctrl-C is the host's to act on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            call, _ = stream.receive(Path(os.devnull))
            stream.send(perform(call))
        except Closed:
            return


def perform(call: Mapping[str, Any]) -> Json:
    """Import and call the function that `call` names; return the answer, an error included."""
    try:
        module, _, name = str(call["function"]).partition(":")
        function = getattr(importlib.import_module(module), name)
        paths = {name: Path(path) for name, path in call["paths"].items()}
        result = {"result": function(call["arguments"], paths, Path(call["out"]))}
        json.dumps(result)
        return result
    except Exception as error:
        remedy = str(getattr(error, "remedy", ""))
        return _error(type(error).__name__, str(error), remedy, traceback.format_exc())


def _serve_one(stream: Stream, child: Child, folder: Path) -> None:
    given, out = folder / "in", folder / "out"
    given.mkdir()
    out.mkdir()
    call, files = stream.receive(given)
    timeout_s = float(call.pop("timeout_s"))
    answer = child.call(call, files, out, timeout_s, host=0)
    written = [path for path in sorted(out.rglob("*")) if path.is_file()] if "result" in answer else []
    stream.send(answer, {path.relative_to(out).as_posix(): path for path in written})


def _own_streams() -> Stream:
    """Take stdin and stdout for frames; whatever the process prints from now on goes to stderr, from C as well."""
    sys.stdout.flush()
    writing = os.dup(1)
    os.dup2(2, 1)
    return Stream(0, writing)


def _await(child: int, host: int, deadline: float) -> None:
    """Wait until the child answers.

    Raises:
        Late: the deadline passed. Closed: the host is gone.
    """
    while True:
        ready, _, _ = select.select([child, host], [], [], max(0.0, deadline - time.monotonic()))
        if child in ready:
            return
        if host in ready:
            # The host sends nothing while it waits: it can only have closed its end.
            raise Closed("the host is gone")
        if not ready:
            raise Late()


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _death(code: int) -> str:
    """Describe how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", often for want of memory" if name == "SIGKILL" else "")


def _error(kind: str, message: str, remedy: str, trace: str = "") -> Json:
    return {"error": {"class": kind, "message": message, "remedy": remedy, "trace": trace}}


def _close(stream: Optional[IO[bytes]]) -> None:
    with contextlib.suppress(OSError):
        if stream:
            stream.close()


if __name__ == "__main__":
    sys.path.insert(0, _ROOT)
    serve()
