"""`edgeprune plan`."""

from __future__ import annotations

from edgeprune.cli.options import PlanOptions
from edgeprune.cli.output import finish, running
from edgeprune.units import parse_latencies


def plan(options: PlanOptions) -> int:
    """Choose the widths for one latency, or several.

    Several are separated by commas: --latency 10ms,8ms,60%. Nothing is trained or written.
    """
    budgets = parse_latencies(options.latency_text())
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline
        from edgeprune.report.text import LATENCY_MEANS

        progress.say(LATENCY_MEANS)
        result = pipeline.plan(job, progress, budgets)
    return finish(options, result)
