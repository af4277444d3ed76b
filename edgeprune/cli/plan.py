"""`edgeprune plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edgeprune.cli.options import PlanOptions, announce, value
from edgeprune.cli.output import finish, running
from edgeprune.units import parse_latencies


@dataclass(frozen=True)
class LadderOptions(PlanOptions):
    """What `plan` alone takes: several latencies, and a question about them."""

    explain: Annotated[str | None, value("MODULE", "Say why this module is as wide as it is.")] = None


def plan(options: LadderOptions) -> int:
    """Choose the widths for one latency, or several.

    Several are separated by commas: --latency 10ms,8ms,60%. Nothing is trained or written.
    """
    budgets = parse_latencies(options.latency_text())
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline

        announce(job, progress)
        result = pipeline.plan(job, progress, budgets, options.explain or "")
    return finish(options, result)
