"""`edgeprune profile`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Self

import typer

from edgeprune.cli.options import Common, NetworkOptions, autos, brought, default_of, flag, value, without
from edgeprune.cli.output import finish, running
from edgeprune.errors import InputError
from edgeprune.targets.target import find_target

_FOR_SHARING = {*(item.name for item in fields(Common)), "target"}


@dataclass(frozen=True)
class ProfileOptions(NetworkOptions):
    """What `profile` takes: a network on a device, or what to do with the tables that are there."""

    check: Annotated[
        bool, flag("--check", "Only say whether the stored table can be trusted: 30 s, and a minute for quiet.")
    ] = False
    explain: Annotated[str | None, value("MODULE", "Show and draw what this module costs at each width.")] = None
    export_to: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Only write the target's stored tables into DIR."),
    ] = None
    import_from: Annotated[
        Path | None, typer.Option("--import", metavar="DIR", help="Only take in the tables of DIR.")
    ] = None

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without a file's `explain` where no table is shown, and its `precision = "auto"`, and
        weights that MODEL has of its own.
        """
        left = autos(self, from_file) | brought(self, from_file)
        if self.check or self.shares():
            left |= from_file & {"explain"}
        return without(self, left | (from_file & set(self.unused_by_sharing()) if self.shares() else set()))

    def shares(self) -> bool:
        """Whether tables are only passed on: `--export` or `--import`."""
        return self.export_to is not None or self.import_from is not None

    def unused_by_sharing(self) -> list[str]:
        """Return the fields that were given and say nothing where tables are only passed on."""
        asked = {item.name: item for item in fields(NetworkOptions) if item.name not in _FOR_SHARING}
        return [name for name, item in asked.items() if getattr(self, name) != default_of(item)]


def profile(options: ProfileOptions) -> int:
    """Measure the latency table that MODEL needs.

    It is kept for the next run on the same device with the same settings, and checked before it is used.
    """
    if sum((options.check, options.export_to is not None, options.import_from is not None)) > 1:
        raise InputError("--check, --export and --import do one thing each", remedy="give one of them")
    if options.explain and (options.check or options.shares()):
        raise InputError("--explain shows a table that is measured", remedy="leave out --check, --export and --import")
    if options.shares():
        return _share(options)
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline
        from edgeprune.report.outcome import latency_means

        progress.say(latency_means(copies=find_target(job.target).copies))
        explain = options.explain or ""
        result = pipeline.check(job, progress) if options.check else pipeline.profile(job, progress, explain)
    return finish(options, result)


def _share(options: ProfileOptions) -> int:
    if unused := options.unused_by_sharing():
        given = "MODEL" if unused[0] == "model" else f"--{unused[0].replace('_', '-')}"
        raise InputError(
            f"{given} was given, and --export and --import pass on all tables, or those of a --target",
            remedy="leave it out",
        )
    folder = options.export_to or options.import_from
    assert folder is not None
    if options.target is not None:
        find_target(options.target)
    if options.import_from is not None and not folder.is_dir():
        raise InputError(f"{folder} is not a folder", remedy="name one that `edgeprune profile --export` wrote")
    with running(options):
        from edgeprune import pipeline

        result = pipeline.share(folder, take_in=options.import_from is not None, target=options.target)
    return finish(options, result)
