from __future__ import annotations

import pytest

from edgeprune.errors import InputError
from edgeprune.targets.address import Address


@pytest.mark.parametrize(
    ("text", "host", "user", "port", "python"),
    [
        ("ssh://me@board", "board", "me", None, "python3"),
        ("ssh://Board", "Board", "", None, "python3"),
        ("ssh://me@10.0.0.7:2222", "10.0.0.7", "me", 2222, "python3"),
        ("ssh://me@[fe80::1%eth0]:22", "fe80::1%eth0", "me", 22, "python3"),
        ("ssh://me@board/home/me/venv/bin/python", "board", "me", None, "/home/me/venv/bin/python"),
        ("ssh://board:22/opt/python3.8", "board", "", 22, "/opt/python3.8"),
    ],
)
def test_ssh_addresses(text: str, host: str, user: str, port: int | None, python: str) -> None:
    assert Address.parse(text) == Address(text, "ssh", host, user, port, python)


def test_this_machine() -> None:
    assert Address.parse("local") == Address("local")


@pytest.mark.parametrize(
    "text",
    [
        *("", "board", "ssh://", "ssh://me@", "http://board", "Local", "ssh://me@board:0", "ssh://me@board:65536"),
        # What ssh would take for an option, and what a shell would take apart.
        *("ssh://-oProxyCommand=x", "ssh://-x@board", "ssh://me:secret@board", "ssh://board/a b", "ssh://board/a'b"),
    ],
)
def test_no_device(text: str) -> None:
    with pytest.raises(InputError, match="neither 'local' nor"):
        Address.parse(text)
