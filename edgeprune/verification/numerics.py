"""Do two forms of one network give the same outputs?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOLERANCE = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.02}
"""Largest difference, relative to the largest output, that an engine of a precision may show against torch."""

QUANTIZED_BOUND = 0.5
"""The same for int8, whose difference is what quantization costs and no error of arithmetic.

Up to here accuracy is the judge; above it, outputs have little to do with the network's: the quantization is broken.
"""

ONNX_TOLERANCE = 1e-4
"""The same for the ONNX model on ONNX Runtime in float32."""


INCOMPARABLE = 1e30
"""Stands for the difference of outputs that are no numbers or of another shape: JSON has no infinity."""


def largest_difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return max |found - expected| / max |expected| over all outputs; `INCOMPARABLE` where they can't be compared."""
    worst = 0.0
    if len(found) != len(expected):
        return INCOMPARABLE
    for one, other in zip(found, expected):
        if one.shape != other.shape or not np.isfinite(one).all() or not np.isfinite(other).all():
            return INCOMPARABLE
        scale = float(np.abs(other).max(initial=0.0)) or 1.0
        difference = float(np.abs(one.astype(np.float64) - other).max(initial=0.0)) / scale
        worst = max(worst, min(difference, INCOMPARABLE))
    return worst
