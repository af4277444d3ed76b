"""A machine behind ssh as a device: the agent is sent to it, and talks through the system's own OpenSSH client.

So what holds for `ssh` in a terminal holds here: ~/.ssh/config, jump hosts, agents, and the check of the host's key. No
password is asked for. Nothing is installed: `starter.py` takes the agent in, which needs Python 3.8 on the device. What
is left there is the cache folder (`cache.py`); files that it has by their hash are not sent again, and one whose
connection was cut goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from edgeprune.errors import DeviceError, MissingError
from edgeprune.progress import SILENT, Progress
from edgeprune.targets.address import Address
from edgeprune.targets.cache import digest_of
from edgeprune.targets.frames import Closed, Json, Late, Stream
from edgeprune.targets.host import AgentDevice, Files, RemoteTrace
from edgeprune.targets.packing import packed_agent, starter
from edgeprune.targets.peer import Peer
from edgeprune.targets.ssh_failures import by_hand, destination, reason

CONNECT_LIMIT_S = 10
_ALIVE_EVERY_S, _ALIVE_MISSED = 15, 3
_EXIT_LIMIT_S = 5.0
_OUTPUT_KEPT_BYTES = 8192
_STORED_LIMIT_S = 120.0

_OPTIONS = {
    "BatchMode": "yes",
    "ClearAllForwardings": "yes",
    "ConnectTimeout": str(CONNECT_LIMIT_S),
    "LogLevel": "ERROR",
    "RemoteCommand": "none",
    "ServerAliveCountMax": str(_ALIVE_MISSED),
    "ServerAliveInterval": str(_ALIVE_EVERY_S),
}


class SshDevice(AgentDevice):
    """The machine at an ssh address; see `device.Device`.

    A call whose connection is cut is made again over a new one: what EdgePrune calls gives the same when it is
    repeated. The agent that was cut off is ended first, so that no two measure at the same time.
    """

    pauses_s = (0.5, 2.0, 5.0, 10.0)

    def __init__(self, address: Address, progress: Progress = SILENT) -> None:
        super().__init__(address.text, progress)
        self._address = address
        self._errors: IO[bytes] | None = None

    def _drop(self) -> None:
        super()._drop()
        self._forget()

    def _start(self) -> Peer:
        agent = packed_agent()
        told = [str(len(agent)), hashlib.sha256(agent).hexdigest()]
        if self._greeting:
            told.append(str(self._greeting["process"]))
        self._forget()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open for as long as the connection)
        try:
            peer = Peer(command(self._address, told), self._errors)
        except FileNotFoundError:
            raise MissingError("no ssh client is installed here", remedy="sudo apt install openssh-client") from None
        with contextlib.suppress(Closed, Late):  # why, is found where the greeting does not come
            peer.stream.write(agent)
        return peer

    def _unstarted(self, peer: Peer, error: Exception) -> MissingError:
        code = peer.end(_EXIT_LIMIT_S if isinstance(error, Closed) else 0)
        written = self._written()
        if isinstance(error, Closed):
            found = reason(self._address, code, written)
        elif isinstance(error, Late):
            found = DeviceError(
                f"{self.name} did not answer in time", remedy=f"see what it does: {by_hand(self._address)}"
            )
        else:
            found = MissingError(
                f"what answers on {self.name} is not the agent: {error}",
                remedy="let the device's shell start files print nothing where there is no terminal",
            )
        if written:
            found.__cause__ = RemoteTrace("\n" + written)
        return found

    def _forget(self) -> None:
        if self._errors:
            self._errors.close()
            self._errors = None

    def _written(self) -> str:
        """Return the end of what ssh and the device wrote to stderr."""
        if not self._errors:
            return ""
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - _OUTPUT_KEPT_BYTES))
        return self._errors.read().decode(errors="replace").strip()

    def _send_call(self, stream: Stream, call: Json, files: Files) -> None:
        """Send what the device's cache lacks of the files, then the call that names them by their hashes."""
        digests = {name: _digest(one) for name, one in files.items()}
        contents = {digests[name]: one for name, one in files.items()}
        if files:
            sizes = {digest: _size(one) for digest, one in contents.items()}
            for digest, start in self._ask(stream, {"lacks": sizes}).items():
                self._store(stream, digest, start, contents[digest])
        stream.send({**call, "stored": digests})

    def _store(self, stream: Stream, digest: str, start: int, content: bytes | Path) -> None:
        stream.begin({"store": digest, "start": start}, {"rest": _size(content) - start})
        if isinstance(content, bytes):
            stream.write(content[start:])
        else:
            stream.write_file(content, start)
        self._answered(stream, _STORED_LIMIT_S)


def command(address: Address, told: Sequence[str]) -> list[str]:
    """Return what starts the agent on the device: the ssh client, its options, and what the shell there runs."""
    options = [part for name, value in _OPTIONS.items() for part in ("-o", f"{name}={value}")]
    python = [shlex.quote(address.python), "-c", f"'exec({json.dumps(starter())})'"]
    return ["ssh", "-T", *options, *destination(address), " ".join(["exec", *python, *told])]


def _digest(content: bytes | Path) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else digest_of(content)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
