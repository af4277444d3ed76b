"""Pages as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeprune.artifacts.contents import rewrite_page
from edgeprune.records import write_bytes
from edgeprune.report.facts import PAGE
from edgeprune.report.html import comparison, page


def publish(bundles: Sequence[Path], out: Path, *, compare: bool = False) -> None:
    """Write the page about one bundle, or the comparison of several, to `out`.

    The page that lies in its bundle, as `report.html`, is listed in the manifest with its hash.

    Raises:
        InputError: one is not a bundle, or a file of it is missing or was changed since.
    """
    if compare or out.resolve() != (bundles[0] / PAGE).resolve():
        write_bytes(out, (comparison(bundles) if compare else page(bundles[0])).encode())
        return
    rewrite_page(bundles[0], page(bundles[0]).encode())
