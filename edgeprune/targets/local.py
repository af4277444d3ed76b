"""This machine as a device: the agent as a child process, so that what it runs cannot harm the program itself."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Mapping, Optional, Union

from edgeprune import errors
from edgeprune.errors import DeviceError, EdgePruneError
from edgeprune.targets.agent import PROTOCOL, Closed, Late, Peer, Stream
from edgeprune.targets.device import Answer

_START_LIMIT_S = 60.0
# The agent keeps the limit of the call itself; this is for an agent that has stopped answering.
_GRACE_S = 30.0
_END_LIMIT_S = 3.0


class RemoteTrace(Exception):
    """Where an error happened on the device, shown as its cause by `--debug`."""


class LocalDevice:
    """This machine, reached through an agent that is started at the first call; see `device.Device`."""

    name = "local"

    def __init__(self) -> None:
        self._peer: Optional[Peer] = None

    def call(
        self,
        function: str,
        arguments: Mapping[str, Any],
        files: Mapping[str, Union[bytes, Path]],
        timeout_s: float,
    ) -> Answer:
        """Call a function in the agent; see `device.Device.call`. An interrupted call ends the agent."""
        call = {"function": function, "arguments": dict(arguments), "timeout_s": timeout_s}
        try:
            return self._exchange(call, files)
        except (Closed, Late, ValueError) as error:
            self.close()
            raise DeviceError(
                f"the agent that ran {function} stopped answering ({type(error).__name__}: {error})",
                remedy="read what it wrote above, and try again",
            ) from None
        except BaseException as error:
            if not isinstance(error, EdgePruneError):
                self.close()
            raise

    def close(self) -> None:
        """End the agent and what it runs; see `device.Device.close`."""
        peer, self._peer = self._peer, None
        if peer:
            # At the end of its input the agent kills its child, which no signal to the agent alone would do.
            peer.end(_END_LIMIT_S)

    def __enter__(self) -> LocalDevice:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _exchange(self, call: Mapping[str, Any], files: Mapping[str, Union[bytes, Path]]) -> Answer:
        stream = self._stream()
        stream.send(call, files)
        answer, received = stream.receive_bytes(time.monotonic() + call["timeout_s"] + _GRACE_S)
        if "error" in answer:
            raise _rebuilt(answer["error"])
        return Answer(answer["result"], received)

    def _stream(self) -> Stream:
        """Return the stream to the agent, started if there is none or it has died."""
        if self._peer and not self._peer.alive():
            self.close()
        if not self._peer:
            self._peer = Peer([sys.executable, str(Path(__file__).with_name("agent.py"))])
            greeting, _ = self._peer.stream.receive_bytes(time.monotonic() + _START_LIMIT_S)
            if greeting.get("agent") != PROTOCOL:
                raise ValueError(f"it speaks {greeting.get('agent')!r}, not {PROTOCOL!r}")
        return self._peer.stream


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
