"""`edgeprune doctor`."""

from __future__ import annotations

from edgeprune.cli.options import DoctorOptions
from edgeprune.cli.output import finish, running
from edgeprune.targets.address import Address
from edgeprune.targets.target import find_target


def doctor(options: DoctorOptions) -> int:
    """Say what a machine has, and what mends the rest.

    Runtimes, processor, load, clocks: all that decides whether a latency measured there can be trusted.
    """
    Address.parse(options.device)
    if options.target is not None:
        find_target(options.target)
    with running(options) as progress:
        from edgeprune import pipeline

        result = pipeline.doctor(options.target, options.device, progress, options.clean)
    return finish(options, result)
