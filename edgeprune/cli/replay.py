"""`edgeprune replay`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from edgeprune.cli.bundles import existing_bundle
from edgeprune.cli.options import Common, argument, value, without
from edgeprune.cli.output import finish, running
from edgeprune.errors import InputError


@dataclass(frozen=True)
class ReplayOptions(Common):
    """What `replay` takes."""

    bundle: Annotated[Path | None, argument("BUNDLE", "Folder that `export` wrote.")] = None
    out: Annotated[Path | None, value("DIR", "Keep the new bundle there.", show_default="it is not kept")] = None

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without a file's `out`: that is the folder of the first bundle."""
        return without(self, from_file & {"out"})


def replay(options: ReplayOptions) -> int:
    """Run the export that made BUNDLE again, and list every difference.

    Run it in the folder in which the export ran. Exit code: 0 no difference, 2 an input
    differs, 8 the device differs, 7 only the result differs; where the new bundle fails with another verdict than the
    old one, that verdict's code.
    """
    bundle = existing_bundle(options.bundle)
    if options.out is not None and options.out.exists():
        raise InputError(f"output folder {options.out} exists already", remedy="go elsewhere with --out DIR")
    with running(options) as progress:
        from edgeprune.replay import replay as run_again

        result = run_again(bundle, options.out, progress)
    return finish(options, result)
