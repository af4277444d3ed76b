"""`edgeprune export`."""

from __future__ import annotations

from edgeprune.cli.options import ExportOptions
from edgeprune.cli.output import finish, running
from edgeprune.targets.target import find_target


def export(options: ExportOptions) -> int:
    """Cut MODEL to a latency and verify it on the device.

    The main job: choose the widths, cut, recover the accuracy, export, measure; the result is a bundle.
    """
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline
        from edgeprune.report.outcome import latency_means

        progress.say(latency_means(copies=find_target(job.target).copies))
        result = pipeline.export(job, progress)
    return finish(options, result)
