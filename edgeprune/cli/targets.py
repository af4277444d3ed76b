"""`edgeprune targets`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeprune.cli.options import TargetsOptions
from edgeprune.cli.output import finish
from edgeprune.targets import target as known
from edgeprune.targets.reach import missing


def targets(options: TargetsOptions) -> int:
    """List the kinds of hardware that are known.

    For each: the runtime it needs, and whether it can be used from here.
    """
    return finish(options, _Listing(tuple(known.targets().values())))


@dataclass(frozen=True)
class _Listing:
    targets: tuple[known.Target, ...]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"schema": "edgeprune.targets/1", "targets": [_row(target) for target in self.targets]}


def _row(target: known.Target) -> dict[str, Any]:
    reason = missing(target)
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
