"""`edgeprune export`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

from edgeprune.artifacts.workspace import Workspace
from edgeprune.cli.options import (
    NO_MIRROR,
    PRECISION_OR_AUTO,
    RESUME,
    PlanOptions,
    announce,
    brought,
    flag,
    value,
    without,
    yielding,
)
from edgeprune.cli.output import finish, running
from edgeprune.errors import InputError
from edgeprune.job import Job, default_out
from edgeprune.units import LatencyBudget, parse_latencies


@dataclass(frozen=True)
class ExportOptions(PlanOptions):
    """What `export` takes: `plan`'s, and how the run goes."""

    precision: Annotated[str | None, PRECISION_OR_AUTO] = None
    out: Annotated[Path | None, value("DIR", "The bundle's folder.", show_default="runs/MODEL-TARGET")] = None
    epochs: Annotated[
        int | None, value("N", "Epochs of training after the cut.", show_default="3 with data, 0 without")
    ] = None
    no_mirror: Annotated[bool, NO_MIRROR] = False
    max_drop: Annotated[
        float | None, value("POINTS", "Accuracy that may be lost, in percentage points; more ends with exit 6.")
    ] = None
    rounds: Annotated[
        int, value("N", "Most measurements to close in on the budget; after 4, only until one is within it.")
    ] = 6
    dry_run: Annotated[bool, flag("--dry-run", "Stop after the plan; write no bundle.")] = False
    resume: Annotated[bool, RESUME] = False
    force: Annotated[bool, flag("--force", "Replace what is in the bundle's folder.")] = False
    allow_unverified: Annotated[bool, flag("--allow-unverified", "Exit 0 though nothing could be measured.")] = False

    def job(self) -> Job:
        """Return the job that these options describe."""
        job = super().job()
        return replace(
            job,
            latency=self._one_latency(),
            out=self._folder(),
            epochs=self.epochs,
            no_mirror=self.no_mirror,
            max_drop=self.max_drop,
            rounds=self.rounds,
            dry_run=self.dry_run,
            resume=self.resume,
            force=self.force,
            allow_unverified=self.allow_unverified,
        )

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without a file's --resume or --force where the other one was typed, and without its
        weights where MODEL has its own.
        """
        return without(self, yielding(self, from_file, "resume", "force") | brought(self, from_file))

    def resumable(self) -> bool:
        """Whether --resume goes on: without --force a bundle is in its way until a run has begun."""
        return not self.force or Workspace.is_started(self._folder())

    def _folder(self) -> Path:
        return self.out or default_out(self.model or "", self.target or "")

    def _one_latency(self) -> LatencyBudget:
        text = self.latency_text()
        budgets = parse_latencies(text)
        if len(budgets) > 1:
            raise InputError(
                f"export makes one network, and --latency {text} asks for {len(budgets)}",
                remedy=f"give one latency; `edgeprune plan --latency {text}` compares them",
            )
        return budgets[0]


def export(options: ExportOptions) -> int:
    """Cut MODEL to a latency and verify it on the device.

    The main job: choose the widths, cut, recover the accuracy, export, measure; the result is a bundle.
    """
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline

        announce(job, progress)
        result = pipeline.export(job, progress)
    return finish(options, result)
