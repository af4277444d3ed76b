"""What a person writes after --device, read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeprune.errors import InputError, nearest

_SSH = re.compile(
    r"ssh://(?:(?P<user>[^@/:\s-][^@/:\s]*)@)?(?P<host>\[[\w.:%]+\]|[^@/:\s\[\]-][^@/:\s\[\]]*)"
    r"(?::(?P<port>\d{1,5}))?(?P<python>/[^\s']+)?"
)


@dataclass(frozen=True)
class Address:
    """Where a device is.

    Attributes:
        text: as it was written.
        kind: `local` or `ssh`, as in a target's `devices`.
        host: name, number or alias; of an ssh address, as the other fields.
        user: empty where ssh's own configuration says.
        port: None where ssh's own configuration says.
        python: the Python to use there; the `python3` of its PATH by default.
    """

    text: str
    kind: str = "local"
    host: str = ""
    user: str = ""
    port: int | None = None
    python: str = "python3"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `local`, or `ssh://[user@]host[:port][/path/to/python]`.

        Raises:
            InputError: of another form.
        """
        if text == "local":
            return cls(text)
        found = _SSH.fullmatch(text)
        if found and int(found["port"] or 1) in range(1, 1 << 16):
            port = int(found["port"]) if found["port"] else None
            host = found["host"].strip("[]")
            return cls(text, "ssh", host, found["user"] or "", port, found["python"] or cls.python)
        raise InputError(
            f"device {text!r} is neither 'local' nor an ssh address{nearest(text, ['local'])}",
            remedy="write it like --device local or --device ssh://user@host",
        )
