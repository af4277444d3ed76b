"""From what a person writes after --device to a device, and whether a target can be had there."""

from __future__ import annotations

from edgeprune.errors import UnreachableError
from edgeprune.progress import SILENT, Progress
from edgeprune.targets.address import Address
from edgeprune.targets.device import Device
from edgeprune.targets.local import LocalDevice
from edgeprune.targets.ssh import SshDevice
from edgeprune.targets.target import Target


def open_device(text: str, progress: Progress = SILENT) -> Device:
    """Return the device that `text` names; nothing is started before the first call.

    Args:
        text: `local`, or an ssh address.
        progress: where it is said that a connection was cut and is taken up again.

    Raises:
        InputError: neither `local` nor an ssh address.
    """
    address = Address.parse(text)
    return LocalDevice() if address.kind == "local" else SshDevice(address, progress)


def check_reach(target: Target, text: str) -> None:
    """Refuse a device that can't be one of `target`, before anything is started.

    Raises:
        InputError: neither `local` nor an ssh address.
        UnreachableError: no such device can be reached that way, or this machine lacks the target's runtime.
    """
    kind = Address.parse(text).kind
    if target.record is None or kind not in target.devices:
        raise UnreachableError(
            f"no {target.title} is reachable from here: {target.needs}", remedy=" or ".join(target.remedy)
        )
    if kind == "local" and not target.record.installed():
        raise UnreachableError(
            f"no {target.title} is reachable from here: {target.record.title} is not installed",
            remedy=" or ".join([target.record.install, *target.remedy]),
        )
