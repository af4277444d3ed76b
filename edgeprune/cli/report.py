"""`edgeprune report`."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from edgeprune.cli.bundles import existing_bundle
from edgeprune.cli.options import Common, argument, flag, value, without
from edgeprune.cli.output import Printed, finish, running
from edgeprune.errors import InputError


@dataclass(frozen=True)
class ReportOptions(Common):
    """What `report` takes."""

    bundles: Annotated[list[Path] | None, argument("BUNDLE...", "Folders that `export` wrote.")] = None
    compare: Annotated[bool, flag("--compare", "Show several bundles side by side.")] = False
    out: Annotated[Path | None, value("FILE", "The page.", show_default="BUNDLE/report.html, or comparison.html")] = (
        None
    )
    force: Annotated[bool, flag("--force", "Replace FILE.")] = False

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without a file's `out`: that is a bundle's folder."""
        return without(self, from_file & {"out"})


_COMPARISON = Path("comparison.html")
_MOST = 26


def report(options: ReportOptions) -> int:
    """Write the page about BUNDLE, or with --compare about several.

    One HTML file that loads nothing from elsewhere. A bundle holds its own page already, which is left as it is; name
    another file with --out to have one made by this version.
    """
    bundles = [existing_bundle(folder) for folder in options.bundles or ()] or [existing_bundle(None)]
    _check_count(bundles, compare=options.compare)
    out = options.out or (_COMPARISON if options.compare else bundles[0] / "report.html")
    kept = options.out is None and not options.compare and out.exists() and not options.force
    if out.exists() and not kept and not options.force:
        raise InputError(f"{out} exists already", remedy="--force replaces it, --out FILE goes elsewhere")
    if out.is_dir():
        raise InputError(f"{out} is a folder", remedy="name a file with --out FILE")
    with running(options) as progress:
        from edgeprune.report.documents import report_document
        from edgeprune.report.facts import read_facts
        from edgeprune.report.publish import publish

        if kept:
            read_facts(bundles[0])  # refuses a page that is not the one that was exported
        else:
            with progress.step("drawing the report"):
                publish(bundles, out, compare=options.compare)
        document = report_document(bundles, out)
    return finish(options, Printed(document))


def _check_count(bundles: Sequence[Path], *, compare: bool) -> None:
    if compare and not 2 <= len(bundles) <= _MOST:
        raise InputError(
            f"--compare was given {len(bundles)} bundle{'s' * (len(bundles) != 1)}", remedy=f"name 2 to {_MOST}"
        )
    if not compare and len(bundles) > 1:
        raise InputError(f"{len(bundles)} bundles were named", remedy="add --compare to see them side by side")
