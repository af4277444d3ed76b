"""What the OpenSSH client and the device's shell say when no agent starts, and what a person can do about it."""

from __future__ import annotations

import re
from collections.abc import Callable

from edgeprune.errors import DeviceError, MissingError, UnreachableError
from edgeprune.targets.address import Address

_SSH_FAILED = 255
_NOT_FOUND = (126, 127)
_OFFENDING = re.compile(r"Offending .*key in (\S+?):\d+")
_OWN = "edgeprune: "


def destination(address: Address) -> list[str]:
    """Return the words that name a device on the command line of ssh."""
    port = ["-p", str(address.port)] if address.port else []
    return [*port, "--", f"{address.user}@{address.host}" if address.user else address.host]


def by_hand(address: Address, *words: str) -> str:
    """Return the command with which a person reaches the device."""
    return " ".join(["ssh", *(word for word in destination(address) if word != "--"), *words])


def reason(address: Address, code: int, written: str) -> MissingError:
    """Return why no agent started: a DeviceError where the same may succeed a moment later.

    Args:
        address: of the device.
        code: with which ssh ended.
        written: what it and the device wrote to stderr.
    """
    if code == _SSH_FAILED:
        for words, make in _SSH_SAYS:
            if words in written:
                return make(address, written)
        return UnreachableError(
            f"{address.text} cannot be reached: {_last_line(written) or 'the connection ended'}",
            remedy=f"check the address, and that the device is on: {by_hand(address)}",
        )
    if code in _NOT_FOUND:
        return MissingError(
            f"{address.text} has no {address.python}: {_last_line(written)}",
            remedy="install Python 3.8 or newer there, or name one: --device ssh://user@host/path/to/python",
        )
    if _OWN in written:
        return MissingError(
            f"{address.text}: {written.rpartition(_OWN)[2]}",
            remedy=f"mend it there: {by_hand(address)}; another Python: --device ssh://user@host/path/to/python",
        )
    return DeviceError(
        f"the agent on {address.text} did not start (code {code}): {_last_line(written)}",
        remedy="run the same with --debug, which shows all that the device wrote",
    )


def _changed(address: Address, written: str) -> MissingError:
    offending = _OFFENDING.search(written)
    file = f"-f {offending[1]} " if offending else ""
    host = f"[{address.host}]:{address.port}" if address.port not in (None, 22) else address.host
    return MissingError(
        f"the host key of {address.text} has changed: it is another machine, or one that was set up anew, or somebody"
        " is in between",
        remedy=f"only if you know why: ssh-keygen {file}-R '{host}', then {by_hand(address)}",
    )


def _unknown(address: Address, written: str) -> MissingError:
    return MissingError(
        f"the host key of {address.text} is not known yet",
        remedy=f"connect once by hand and compare it with the device's: {by_hand(address)}",
    )


def _refused(address: Address, written: str) -> MissingError:
    return MissingError(
        f"{address.text} accepts none of your keys: {_last_line(written)}",
        remedy=f"ssh-copy-id{by_hand(address).removeprefix('ssh')}, or load the right key with ssh-add",
    )


_SSH_SAYS: tuple[tuple[str, Callable[[Address, str], MissingError]], ...] = (
    ("IDENTIFICATION HAS CHANGED", _changed),
    ("Host key verification failed", _unknown),
    ("Permission denied", _refused),
)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
