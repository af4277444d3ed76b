"""The program that runs on a device: it calls functions that the host names, and survives what they do.

    host  <-- frames on stdin/stdout -->  agent  <-- frames -->  child, which imports the runtime and does the work

The agent itself imports nothing but the standard library. The work is done in its child, so that a crash, a kill for
want of memory or a call that never ends comes back to the host as an error; the child is kept for further calls (to
import a runtime takes long) and started again when it has died. When the host goes away, both end.

It runs from a checkout, and from the one file that `packing.py` makes for a device that has nothing of EdgePrune;
through a pipe or through ssh: nothing but the two streams connects it with the host.

The first frame (`frames.py`) of an agent is its greeting, {"agent": "edgeprune-agent/2", "python":, "process":}. Then
the host sends requests and gets one answer for each, {"result": ..., "files": [...]} or {"error": {"class", "message",
"remedy", "trace"}, "files": []}:

    {"function": "package.module:name", "arguments": {...}, "timeout_s": seconds, "stored": {NAME: SHA-256}, "files":}
    {"lacks": {SHA-256: size}}                   which of these are not whole in the cache: {SHA-256: bytes there}
    {"store": SHA-256, "start": n, "files":}     the rest of one, from byte n on
    {"clean": true}                              empty the cache: {"bytes": freed}

A function is called as name(arguments, files, out): JSON, paths by name, and a folder; its files are those that came
with the request and those that are stored; it returns JSON, and the files that it left in the folder go back, with
their SHA-256 by name under `digests`. The child gets the same request with paths in place of files.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from edgeprune.errors import EdgePruneError
from edgeprune.targets.cache import Cache, digest_of
from edgeprune.targets.frames import PROTOCOL, Closed, Json, Late, Sizes, Stream, numbered
from edgeprune.targets.peer import Peer

_ANSWER_LIMIT_S = 60.0
_DEATH_LIMIT_S = 10.0
_IDLE_LIMIT_S = 6 * 3600.0
_PR_SET_PDEATHSIG = 1
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOT = str(Path(__file__).absolute().parents[2])
# Nothing is imported from the folder that it happens to start in.
_START = f"import sys; sys.path[:] = [{_ROOT!r}, *filter(None, sys.path)]; from edgeprune.targets.agent import %s; %s()"


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
            self._peer = Peer(own_command("serve_child"))
        return self._peer


def own_command(function: str) -> List[str]:
    """Return the command that runs a function of this module in a Python of its own."""
    return [sys.executable, "-c", _START % (function, function)]


def serve(cache: Optional[Cache] = None) -> None:
    """Serve the host on stdin and stdout until it goes away.

    Args:
        cache: where files are kept; without one nothing is, and a call's files come with it.
    """
    stream = _own_streams()
    child = Child()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the child is ended as well
    try:
        stream.send({"agent": PROTOCOL, "python": sys.version.split()[0], "process": os.getpid()})
        while True:
            _serve_one(stream, child, cache)
    except (Closed, Late):  # a host that was cut off without a word is not waited for, nor its memory kept, for ever
        pass
    finally:
        child.stop()


def serve_from_file() -> None:
    """Serve as the file that was sent to a device: `python agent.pyz FOLDER [PROCESS]`.

    The folder is the cache's; the process is an agent that served the same host over a connection that was cut, and
    that may not have noticed yet.
    """
    folder, *predecessor = sys.argv[1:]
    for process in predecessor:
        _end_agent(int(process))
    try:
        cache = Cache(Path(folder))
    except OSError as error:
        sys.exit(f"edgeprune: {error}")
    serve(cache)


def serve_child() -> None:
    """Do what the agent passes on, until it goes away. Runs in the child."""
    _die_with_parent()
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
        out = Path(call["out"])
        with _temporary_files_in(out.parent):
            result = {"result": function(call["arguments"], paths, out)}
        json.dumps(result)
        return result
    except Exception as error:
        return _told(error)


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have temporary files made in the call's own folder: the agent removes that also where this process is killed."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _serve_one(stream: Stream, child: Child, cache: Optional[Cache]) -> None:
    request, sizes = stream.header(time.monotonic() + _IDLE_LIMIT_S)
    try:
        if "function" in request:
            with _work(cache) as folder:
                stream.send(*_called(stream, request, sizes, child, cache, folder))
        else:
            result = _kept(stream, request, sizes, cache)
            stream.skip()  # another agent may have been faster to store what came
            stream.send({"result": result})
    except (OSError, EdgePruneError) as error:
        stream.skip()
        stream.send(_told(error))


def _called(
    stream: Stream, request: Json, sizes: Sizes, child: Child, cache: Optional[Cache], folder: Path
) -> Tuple[Json, Dict[str, Path]]:
    """Let the child do a call in `folder`; return the answer and the files that go with it."""
    given, out = folder / "in", folder / "out"
    given.mkdir()
    out.mkdir()
    files = stream.save(sizes, given)
    for name, digest in request.pop("stored", {}).items():
        assert cache, "a host stores only where there is one"
        files[name] = numbered(given, len(files), name)
        cache.lend(digest, files[name])
    timeout_s = float(request.pop("timeout_s"))
    answer = child.call(request, files, out, timeout_s, host=0)
    written = [path for path in sorted(out.rglob("*")) if path.is_file()] if "result" in answer else []
    back = {path.relative_to(out).as_posix(): path for path in written}
    return {**answer, "digests": {name: digest_of(path) for name, path in back.items()}}, back


def _kept(stream: Stream, request: Json, sizes: Sizes, cache: Optional[Cache]) -> Json:
    """Do what a request asks of the cache."""
    if not cache:
        return {"bytes": 0}
    if "lacks" in request:
        return dict(cache.lacks(request["lacks"]))
    if "store" in request:
        cache.store(request["store"], int(request["start"]), stream.blocks(sum(size for _, size in sizes)))
        return {}
    return {"bytes": cache.clean()}


@contextlib.contextmanager
def _work(cache: Optional[Cache]) -> Iterator[Path]:
    """Yield a folder for one call: there is none while the agent is idle, that a kill could leave behind."""
    if cache:
        with cache.work() as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="edgeprune-agent-") as name:
            yield Path(name)


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
            raise Late("nothing came")


def _end_agent(process: int) -> None:
    """End the agent `process`, if it still is one of this user's, so that no two measure at the same time."""
    commands = Path("/proc", str(process), "cmdline")
    until = time.monotonic() + _DEATH_LIMIT_S
    with contextlib.suppress(OSError):
        while os.path.basename(sys.argv[0]).encode() in commands.read_bytes() and time.monotonic() < until:
            os.kill(process, signal.SIGTERM)
            time.sleep(0.1)


def _die_with_parent() -> None:
    """Let the system kill this process when the agent dies, as prctl(2) says: it may be in a call for long."""
    with contextlib.suppress(OSError, AttributeError):  # a system that has no such thing
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _death(code: int) -> str:
    """Describe how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    name = {one.value: one.name for one in signal.Signals}.get(-code, f"signal {-code}")
    return f"was killed by {name}" + (", often for want of memory" if name == "SIGKILL" else "")


def _told(error: Exception) -> Json:
    """Return an error as the host rebuilds it: by its class, where that is one of ours."""
    trace = traceback.format_exc()
    if isinstance(error, OSError) and error.errno in _FULL:
        return _error("DeviceError", f"the device's disk is full: {error}", "make room on the device", trace)
    if isinstance(error, MemoryError):
        return _error("DeviceError", "the device has too little memory", "end what else runs there", trace)
    if isinstance(error, ImportError) and not str(error.name).startswith("edgeprune"):
        remedy = f"install it there: python3 -m pip install {str(error.name).partition('.')[0]}"
        return _error("MissingError", f"the device's Python cannot import {error.name}: {error}", remedy, trace)
    message = str(getattr(error, "message", error))
    return _error(type(error).__name__, message, str(getattr(error, "remedy", "")), trace)


def _error(kind: str, message: str, remedy: str, trace: str = "") -> Json:
    return {"error": {"class": kind, "message": message, "remedy": remedy, "trace": trace}}
