"""Whether a target can be used from here at all: known at once, before anything is imported or started."""

from __future__ import annotations

from edgeprune.errors import MissingError
from edgeprune.targets.target import Target


def missing(target: Target) -> str:
    """Return what a target lacks on this machine, empty where it can be used."""
    if target.record is None:
        return f"this version has no adapter for {target.runtime}"
    if "local" not in target.devices:
        return f"needs {target.needs}"
    return "" if target.record.installed() else f"{target.record.title} is not installed: {target.record.install}"


def refuse_unreachable(target: Target, device: str) -> None:
    """Refuse a target that this machine can't be, where no other device was named.

    Raises:
        MissingError: with the commands that would help.
    """
    lacks = missing(target)
    if device == "local" and lacks:
        commands = target.remedy or ((target.record.install,) if target.record else ())
        raise MissingError(f"no {target.title} is reachable from here: {lacks}", remedy=" or ".join(commands))
