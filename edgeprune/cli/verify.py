"""`edgeprune verify`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import typer

from edgeprune.checks import check_files
from edgeprune.cli.bundles import existing_bundle
from edgeprune.cli.options import DEVICE, Common, argument, flag, value, without
from edgeprune.cli.output import finish, running
from edgeprune.errors import InputError
from edgeprune.targets.address import Address


@dataclass(frozen=True)
class VerifyOptions(Common):
    """What `verify` takes."""

    bundle: Annotated[Path | None, argument("BUNDLE", "Folder that `export` wrote.")] = None
    device: Annotated[str, DEVICE] = "local"
    data: Annotated[
        str | None,
        value("D", "Where the images are now; FILE.py:FUNCTION is run only if named.", show_default="where they were"),
    ] = None
    verdict: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Take back what verify.py of the bundle wrote.")
    ] = None
    allow_unverified: Annotated[bool, flag("--allow-unverified", "Exit 0 though not all could be verified.")] = False

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without a file's `data`, which may be code, its `allow-unverified`, and a device that
        is not asked.
        """
        return without(self, from_file & {"data", "allow_unverified", *(["device"] if self.verdict else [])})


def verify(options: VerifyOptions) -> int:
    """Check a bundle's numerics, accuracy and latency."""
    bundle = existing_bundle(options.bundle)
    Address.parse(options.device)
    check_files(None, options.data)
    for name, given in {"--data": options.data is not None, "--device": options.device != "local"}.items():
        if options.verdict is not None and given:
            raise InputError(
                f"--import and {name} were both given", remedy=f"a board's verdict is taken back without {name}"
            )
    if options.verdict is not None and not options.verdict.is_file():
        raise InputError(f"verdict {options.verdict} is not a file", remedy="name the file that verify.py wrote")
    with running(options) as progress:
        from edgeprune import pipeline

        result = pipeline.verify(
            bundle, options.device, progress, options.verdict, options.data, options.allow_unverified
        )
    return finish(options, result)
