"""`edgeprune profile`."""

from __future__ import annotations

from edgeprune.cli.options import ProfileOptions
from edgeprune.cli.output import finish, running
from edgeprune.targets.target import find_target


def profile(options: ProfileOptions) -> int:
    """Measure the latency table that MODEL needs.

    It is kept for the next run on the same device with the same settings.
    """
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline
        from edgeprune.report.text import latency_means

        progress.say(latency_means(copies=find_target(job.target).copies))
        result = pipeline.profile(job, progress)
    return finish(options, result)
