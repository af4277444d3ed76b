"""`edgeprune verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.bundles import existing_bundle
from edgeprune.cli.options import DEVICE, Common, argument
from edgeprune.cli.output import finish, running
from edgeprune.errors import InputError
from edgeprune.targets.address import Address


@dataclass(frozen=True)
class VerifyOptions(Common):
    """What `verify` takes."""

    bundle: Annotated[Path | None, argument("BUNDLE", "Folder that `export` wrote.")] = None
    device: Annotated[str, DEVICE] = "local"
    verdict: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Take back what verify.py of the bundle wrote.")
    ] = None


def verify(options: VerifyOptions) -> int:
    """Check a bundle's numerics, accuracy and latency."""
    bundle = existing_bundle(options.bundle)
    Address.parse(options.device)
    if options.verdict is not None and not options.verdict.is_file():
        raise InputError(f"verdict {options.verdict} is not a file", remedy="name the file that verify.py wrote")
    with running(options) as progress:
        from edgeprune import pipeline

        result = pipeline.verify(bundle, options.device, progress, options.verdict)
    return finish(options, result)
