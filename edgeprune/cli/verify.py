"""`edgeprune verify`."""

from __future__ import annotations

from edgeprune.cli.bundles import existing_bundle
from edgeprune.cli.options import VerifyOptions
from edgeprune.cli.output import finish, running
from edgeprune.errors import InputError
from edgeprune.targets.address import Address


def verify(options: VerifyOptions) -> int:
    """Check a bundle's numerics, accuracy and latency."""
    bundle = existing_bundle(options.bundle)
    Address.parse(options.device)
    if options.verdict is not None and not options.verdict.is_file():
        raise InputError(f"verdict {options.verdict} is not a file", remedy="name the file that verify.py wrote")
    with running(options) as progress:
        from edgeprune import pipeline
        from edgeprune.report.outcome import LATENCY_MEANS

        progress.say(LATENCY_MEANS)
        result = pipeline.verify(bundle, options.device, progress, options.verdict)
    return finish(options, result)
