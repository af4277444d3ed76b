"""`edgeprune diff`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edgeprune.cli.bundles import existing_bundle
from edgeprune.cli.options import Common, argument
from edgeprune.cli.output import Printed, finish, running


@dataclass(frozen=True)
class DiffOptions(Common):
    """What `diff` takes."""

    one: Annotated[Path | None, argument("A", "Folder that `export` wrote.")] = None
    other: Annotated[Path | None, argument("B", "Another one.")] = None


def diff(options: DiffOptions) -> int:
    """List what differs between the bundles A and B.

    Inputs, settings, versions, device, widths, files, numerics, accuracy, latency. Differences are the result: the exit
    code is 0 with them and without.
    """
    one, other = existing_bundle(options.one, "A"), existing_bundle(options.other, "B")
    with running(options):
        from edgeprune.report.differences import differences
        from edgeprune.report.documents import diff_document
        from edgeprune.report.facts import read_facts

        before, after = read_facts(one), read_facts(other)
        document = diff_document("diff", one, other, differences(before, after), before, after)
    return finish(options, Printed(document))
