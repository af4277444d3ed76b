"""`edgeprune targets`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from edgeprune.cli.options import DEVICE, Common
from edgeprune.cli.output import finish, running
from edgeprune.targets import target as known
from edgeprune.targets.address import Address
from edgeprune.targets.devices import open_device


@dataclass(frozen=True)
class TargetsOptions(Common):
    """What `targets` takes."""

    device: Annotated[str, DEVICE] = "local"


_ASK_LIMIT_S = 60.0


def targets(options: TargetsOptions) -> int:
    """List the kinds of hardware that are known.

    For each: the runtime it needs, and whether it can be used here, or on the device that is named.
    """
    rows = tuple(known.targets().values())
    if options.device == "local":
        return finish(options, _Listing(options.device, rows))
    with running(options) as progress, open_device(options.device, progress) as device:
        found = device.call("edgeprune.latency.worker:lacking", {}, {}, _ASK_LIMIT_S).result
    return finish(options, _Listing(options.device, rows, found))


@dataclass(frozen=True)
class _Listing:
    """The targets, and what keeps a device's runtimes from being used; None where this machine is asked."""

    device: str
    targets: tuple[known.Target, ...]
    lacking: Mapping[str, str] | None = None
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        rows = [self._row(target) for target in self.targets]
        return {"schema": "edgeprune.targets/1", "device": self.device, "targets": rows}

    def _row(self, target: known.Target) -> dict[str, Any]:
        reason = self._missing(target)
        return {
            "name": target.name,
            "title": target.title,
            "runtime": target.runtime,
            "precisions": list(target.precisions),
            "devices": list(target.devices),
            "needs": target.needs,
            "usable": not reason,
            "reason": reason,
        }

    def _missing(self, target: known.Target) -> str:
        """Return what would make the target usable, or an empty text when it is."""
        if Address.parse(self.device).kind not in target.devices:
            return f"needs {target.needs}"
        if target.record is None:
            return f"this version has no adapter for {target.runtime}"
        return target.record.lacking() if self.lacking is None else self.lacking[target.runtime]
