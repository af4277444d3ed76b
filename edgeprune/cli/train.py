"""`edgeprune train`."""

from __future__ import annotations

from edgeprune.cli.options import TrainOptions
from edgeprune.cli.output import finish, is_spoken_for, running


def train(options: TrainOptions) -> int:
    """Train MODEL so that it can be pruned, from scratch or from weights.

    rni and slimming learn which channels matter, and `edgeprune export CHECKPOINT` uses that; lapp prunes while it
    trains. Under `accelerate launch -m edgeprune train ...` several processes share every batch; on a processor
    torchrun starts them.
    """
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline

        result = pipeline.train(job, progress)
    return result.exit_code if is_spoken_for() else finish(options, result)
