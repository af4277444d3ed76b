"""`edgeprune train`."""

from __future__ import annotations

import os

from edgeprune.cli.options import TrainOptions
from edgeprune.cli.output import finish, running


def train(options: TrainOptions) -> int:
    """Train MODEL so that it can be pruned, from scratch or from weights.

    rni and slimming learn which channels matter, and `edgeprune export CHECKPOINT` uses that; lapp prunes while it
    trains. Under `accelerate launch -m edgeprune train ...` several processes share every batch.
    """
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline

        result = pipeline.train(job, progress)
    if os.environ.get("RANK", "0") != "0":  # the first of several processes speaks for all
        return result.exit_code
    return finish(options, result)
