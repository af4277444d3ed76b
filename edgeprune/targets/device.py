"""What a device is to the rest of EdgePrune: something that calls a function and hands files over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """What a call on a device returned: JSON, and the content of the files it wrote, by name."""

    result: dict[str, Any]
    files: dict[str, bytes]


class Device(Protocol):
    """A machine that can be reached; it keeps what it has imported until it is closed.

    A device is also a context: leaving it closes it.
    """

    name: str

    def call(
        self,
        function: str,
        arguments: Mapping[str, Any],
        files: Mapping[str, bytes | Path],
        timeout_s: float,
    ) -> Answer:
        """Call `package.module:function` on the device with JSON arguments and files.

        Where the connection is cut the function may be called again: it must give the same then.

        Raises:
            EdgePruneError: what the function raised, rebuilt by its class; or the device crashed, or took too long.
            MissingError: the device cannot be reached.
        """

    def clean(self) -> int:
        """Remove the files that are kept on the device, and let go of it; return how many bytes were freed."""

    def close(self) -> None:
        """Let go of the device; whatever runs there ends. Closing twice is allowed."""

    def __enter__(self) -> Device: ...

    def __exit__(self, *exception: object) -> None: ...
