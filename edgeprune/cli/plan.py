"""`edgeprune plan`."""

from __future__ import annotations

from edgeprune.cli.options import LadderOptions
from edgeprune.cli.output import finish, running
from edgeprune.targets.target import find_target
from edgeprune.units import parse_latencies


def plan(options: LadderOptions) -> int:
    """Choose the widths for one latency, or several.

    Several are separated by commas: --latency 10ms,8ms,60%. Nothing is trained or written.
    """
    budgets = parse_latencies(options.latency_text())
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline
        from edgeprune.report.outcome import latency_means

        progress.say(latency_means(copies=find_target(job.target).copies))
        result = pipeline.plan(job, progress, budgets, options.explain or "")
    return finish(options, result)
