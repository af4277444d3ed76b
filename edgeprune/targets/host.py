"""The host's end of an agent: what devices have in common, however the agent is reached."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgeprune import errors
from edgeprune.errors import DeviceError, EdgePruneError, MissingError
from edgeprune.progress import SILENT, Progress
from edgeprune.targets.device import Answer, Device
from edgeprune.targets.frames import PROTOCOL, Closed, Json, Late, Stream
from edgeprune.targets.peer import Peer

_START_LIMIT_S = 60.0
# The agent keeps the limit of the call itself; this is for an agent that has stopped answering.
_GRACE_S = 30.0
_END_LIMIT_S = 3.0

T = TypeVar("T")
Files = Mapping[str, bytes | Path]


class RemoteTrace(Exception):
    """Where an error happened on the device, shown as its cause by `--debug`."""


class AgentDevice(ABC):
    """A device that an agent serves, started at the first call; see `device.Device`.

    A kind of device says how its agent is started, what it means when it does not start, and how a call is sent.

    Args:
        name: as a person writes it.
        progress: where it is said that a connection was cut.

    Attributes:
        name: as a person writes it.
        pauses_s: a request whose connection is cut is sent again after each of these, over a new connection.
    """

    pauses_s: tuple[float, ...] = ()

    def __init__(self, name: str, progress: Progress = SILENT) -> None:
        self.name = name
        self._progress = progress
        self._peer: Peer | None = None
        self._greeting: Json | None = None
        self._closings = 0

    def call(self, function: str, arguments: Mapping[str, Any], files: Files, timeout_s: float) -> Answer:
        """Call a function in the agent; see `device.Device.call`. An interrupted call ends the agent."""
        call = {"function": function, "arguments": dict(arguments), "timeout_s": timeout_s}

        def exchange(stream: Stream) -> Answer:
            self._send_call(stream, call, files)
            answer, received = stream.receive_bytes(time.monotonic() + timeout_s + _GRACE_S)
            return Answer(_result(answer), _intact(received, answer.get("digests", {})))

        return self._tried(exchange, f"ran {function}")

    def clean(self) -> int:
        """Remove the files that are kept on the device, and let go of it; see `device.Device.clean`."""
        freed = self._tried(lambda stream: self._ask(stream, {"clean": True}), "cleaned up")["bytes"]
        self.close()  # its own file is gone
        return int(freed)

    def close(self) -> None:
        """End the agent and what it runs; see `device.Device.close`. A call that another thread waits for fails."""
        self._closings += 1
        self._drop()

    def _drop(self) -> None:
        peer, self._peer = self._peer, None
        if peer:
            # At the end of its input the agent kills its child, which no signal to the agent alone would do.
            peer.end(_END_LIMIT_S)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _start(self) -> Peer:
        """Start an agent, or what connects with one.

        Raises:
            MissingError: there is nothing to start it with.
        """

    def _unstarted(self, peer: Peer, error: Exception) -> MissingError:
        """Return why an agent did not greet; a DeviceError where another try may find it. It ends `peer`."""
        peer.end(0)
        return DeviceError(
            f"the agent on {self.name} did not start ({_told(error)})", remedy="read what it wrote above, and try again"
        )

    def _send_call(self, stream: Stream, call: Json, files: Files) -> None:
        """Send a call with its files."""
        stream.send(call, files)

    def _ask(self, stream: Stream, request: Json) -> Json:
        """Send a request that takes no time and has no files; return its result."""
        stream.send(request)
        return self._answered(stream, _GRACE_S)

    def _answered(self, stream: Stream, limit_s: float) -> Json:
        """Wait for the answer to a request; return its result."""
        return _result(stream.receive_bytes(time.monotonic() + limit_s)[0])

    def _tried(self, exchange: Callable[[Stream], T], what: str) -> T:
        """Return what `exchange` does over a connection; where it is cut, do it again over another.

        Args:
            exchange: does the same when it is repeated.
            what: the agent does, for the message.
        """
        closings = self._closings
        for number, pause_s in enumerate((*self.pauses_s, None), 1):
            try:
                return exchange(self._stream())
            except Closed as error:
                self._drop()
                if pause_s is None or self._closings > closings:
                    raise DeviceError(
                        f"the agent on {self.name} that {what} went away{self._how_often()}: {error}",
                        remedy="see that the device and the connection stay up, and try again",
                    ) from None
            except _Unreached as error:
                if pause_s is None or self._greeting is None or self._closings > closings:
                    raise error.reason from error.reason.__cause__
            except (Late, ValueError) as error:
                self.close()
                raise DeviceError(
                    f"the agent on {self.name} that {what} stopped answering ({_told(error)})",
                    remedy="see what else the device does, and try again",
                ) from None
            except BaseException as error:
                if not isinstance(error, EdgePruneError):
                    self.close()
                raise
            self._progress.say(
                f"the connection to {self.name} was cut: it is taken up again, try {number + 1} of"
                f" {1 + len(self.pauses_s)}"
            )
            time.sleep(pause_s)
            if self._closings > closings:
                raise DeviceError(f"{self.name} was let go of", remedy="run the same again")
        raise AssertionError("the last try returns or raises")

    def _how_often(self) -> str:
        return f" {1 + len(self.pauses_s)} times" if self.pauses_s else ""

    def _stream(self) -> Stream:
        """Return the stream to the agent, started if there is none or it has died."""
        if self._peer and not self._peer.alive():
            self._drop()
        if not self._peer:
            peer = self._start()
            try:
                greeting, _ = peer.stream.receive_bytes(time.monotonic() + _START_LIMIT_S)
                if greeting.get("agent") != PROTOCOL:
                    raise ValueError(f"it speaks {greeting.get('agent')!r}, not {PROTOCOL!r}")
            except (Closed, Late, ValueError) as error:
                reason = self._unstarted(peer, error)
                if isinstance(reason, DeviceError):
                    raise _Unreached(reason) from None
                raise reason from reason.__cause__
            except BaseException:
                peer.end(0)
                raise
            self._peer, self._greeting = peer, greeting
        return self._peer.stream


class _Unreached(Exception):
    """No agent greets; another try may be worth it where one did before."""

    def __init__(self, reason: EdgePruneError) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _result(answer: Json) -> Json:
    if "error" in answer:
        raise _rebuilt(answer["error"])
    if not isinstance(answer.get("result"), dict):
        raise ValueError(f"an answer without a result: {sorted(answer)}")
    return dict(answer["result"])


def _rebuilt(error: Mapping[str, str]) -> EdgePruneError:
    """Return the error as it was raised on the device; what is none of ours becomes an EdgePruneError that says so."""
    kind = getattr(errors, error["class"], None)
    if isinstance(kind, type) and issubclass(kind, EdgePruneError):
        found = kind(error["message"], remedy=error["remedy"])
    elif error["trace"]:
        found = EdgePruneError(f"{error['class']} on the device: {error['message']}", remedy=error["remedy"])
    else:
        found = EdgePruneError(error["message"], remedy=error["remedy"])
    if error["trace"]:
        found.__cause__ = RemoteTrace("\n" + error["trace"])
    return found


def _intact(files: dict[str, bytes], digests: Mapping[str, str]) -> dict[str, bytes]:
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != digests.get(name):
            raise ValueError(f"{name} arrived damaged")
    return files


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
