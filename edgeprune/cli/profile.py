"""`edgeprune profile`."""

from __future__ import annotations

from edgeprune.cli.options import ProfileOptions
from edgeprune.cli.output import finish, running


def profile(options: ProfileOptions) -> int:
    """Measure the latency table that MODEL needs.

    It is kept for the next run on the same device with the same settings.
    """
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline
        from edgeprune.report.text import LATENCY_MEANS

        progress.say(LATENCY_MEANS)
        result = pipeline.profile(job, progress)
    return finish(options, result)
