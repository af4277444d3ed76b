"""`edgeprune plan`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Annotated, Self

from edgeprune.cli.options import PlanOptions, announce, autos, brought, value, without
from edgeprune.cli.output import finish, running
from edgeprune.units import parse_latencies


@dataclass(frozen=True)
class LadderOptions(PlanOptions):
    """What `plan` alone takes: several latencies, and a question about them."""

    explain: Annotated[str | None, value("MODULE", "Say why this module is as wide as it is.")] = None

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without a file's `precision = "auto"`, and weights that MODEL has of its own."""
        return without(self, autos(self, from_file) | brought(self, from_file))


def plan(options: LadderOptions) -> int:
    """Choose the widths for one latency, or several.

    Several are separated by commas: --latency 10ms,8ms,60%. Measures what the latency table lacks;
    trains nothing, and writes no bundle.
    """
    budgets = parse_latencies(options.latency_text())
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline

        announce(job, progress)
        result = pipeline.plan(job, progress, budgets, options.explain or "")
    return finish(options, result)
