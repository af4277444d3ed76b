"""`edgeprune doctor`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Annotated, Self

from edgeprune.cli.options import DEVICE, TARGET, Common, flag, without
from edgeprune.cli.output import finish, running
from edgeprune.errors import InputError
from edgeprune.targets.address import Address
from edgeprune.targets.target import find_target


@dataclass(frozen=True)
class DoctorOptions(Common):
    """What `doctor` takes."""

    target: Annotated[str | None, TARGET] = None
    device: Annotated[str, DEVICE] = "local"
    clean: Annotated[bool, flag("--clean", "Only remove the files that are kept on the device.")] = False

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without a file's target where only the device is cleaned."""
        return without(self, from_file & {"target"}) if self.clean else self


def doctor(options: DoctorOptions) -> int:
    """Say what a machine has, and how to fix what is missing.

    Runtimes, processor, load, clocks: all that decides whether a latency measured there can be trusted.
    """
    Address.parse(options.device)
    if options.clean and options.target is not None:
        raise InputError("--clean and --target were both given", remedy="the files on a device are of no one target")
    if options.target is not None:
        find_target(options.target)
    with running(options) as progress:
        from edgeprune import pipeline

        result = pipeline.doctor(options.target, options.device, progress, options.clean)
    return finish(options, result)
