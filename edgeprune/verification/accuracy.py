"""Accuracy of what is shipped: of the engine, on the device, not of the network that it was made from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeprune.latency.bench import Bench
from edgeprune.progress import SILENT, Progress


def engine_accuracy(
    bench: Bench,
    model: bytes,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    images: int,
    progress: Progress = SILENT,
) -> float:
    """Return top-1 in [0, 1] of the engine over (images (N, C, H, W), labels (N,)) batches."""
    right = seen = 0
    with progress.step("engine accuracy", images) as step:
        for x, y in batches:
            logits = bench.outputs(model, [x])[0]
            right += int((logits.argmax(axis=1) == y).sum())
            seen += len(y)
            step.advance(len(y))
    return right / max(seen, 1)
