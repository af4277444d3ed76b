"""How long a recovery is going to take."""

from __future__ import annotations

import time

import torch
from torch import nn

from edgeprune.graph.inputs import eval_mode
from edgeprune.training.data import Data
from edgeprune.training.recipe import Recipe

_TRIALS = 2


def recovery_seconds(teacher: nn.Module, data: Data, recipe: Recipe, share: float) -> float | None:
    """Return how long the recovery of a cut network takes here, by a timed batch; None where an accelerator trains it.

    The dense network answers each batch; the cut one goes forward and back, which takes twice as long as forward.

    Args:
        teacher: the dense network, on the CPU.
        data: what is trained on.
        recipe: how.
        share: multiply-accumulates of the cut network, of the dense one's.
    """
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return None
    images = torch.cat([x for x, _ in data.calibration(recipe.batch_size, recipe.seed)])
    times = []
    with eval_mode(teacher), torch.no_grad():
        for _ in range(_TRIALS):
            started = time.perf_counter()
            teacher(images)
            times.append(time.perf_counter() - started)
    return recipe.epochs * data.train_steps(recipe.batch_size) * min(times) * (1 + 3 * share)
