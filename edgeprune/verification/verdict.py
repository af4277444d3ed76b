"""From numbers to an exit code: met, missed or unverified, and what else is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterator, Mapping, Optional, Tuple

from edgeprune.errors import AccuracyError, MissingError, NumericsError, OverBudgetError
from edgeprune.units import format_ms
from edgeprune.verification.numerics import ONNX_TOLERANCE, QUANTIZED_BOUND, SLIM_TOLERANCE, TOLERANCE

DROP_WARNED = 0.02
"""Loss of accuracy that is warned about where no floor was given."""

QUANTIZATION_DROP = 0.05
"""An int8 engine that loses so much to the float network which it was made from is broken, whatever was allowed."""

_REMEDY = {
    "slim_vs_masked": "lock the layers that it comes from with --lock",
    "onnx_vs_torch": "please report it with the network",
    "engine_vs_torch": "try --precision fp32, or another --target",
}
"""What to do about a difference that is too large."""


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    Attributes:
        status: `met`, `missed` or `unverified`: the latency's side of it.
        exit_code: of the contract.
        reasons: one sentence for each thing that is wrong or to be known.
    """

    status: str
    exit_code: int
    reasons: tuple[str, ...]


def judge(
    *,
    budget_ms: float,
    measured_ms: float | None,
    trusted: bool,
    distrust: str = "",
    numerics: dict[str, float | None],
    precision: str,
    dense_accuracy: float | None,
    engine_accuracy: float | None,
    max_drop: float | None,
    allow_unverified: bool = False,
    float_accuracy: float | None = None,
) -> Verdict:
    """Return the verdict; the first of numerics, latency and accuracy that fails gives the exit code.

    Args:
        budget_ms: the budget.
        measured_ms: the engine's median on the device; None where it could not be measured.
        trusted: whether the device was quiet enough for that number.
        distrust: why not, if not.
        numerics: `slim_vs_masked`, `onnx_vs_torch`, `engine_vs_torch`: relative differences.
        precision: of the engine.
        dense_accuracy: top-1 in [0, 1], None without data.
        engine_accuracy: the same of the engine.
        max_drop: accuracy that may be lost, in [0, 1]; None sets no floor.
        allow_unverified: an unmeasured result is a success.
        float_accuracy: of the network that an int8 engine was made from; None where it is not known.
    """
    reasons, codes = [], []
    for reason, code in _differences(numerics, precision):
        reasons.append(reason)
        codes.append(code)
    if measured_ms is None or not trusted:
        status = "unverified"
        why = "nothing was measured" if measured_ms is None else distrust or "the device was busy"
        reasons.append(f"PREDICTED, NOT VERIFIED: {why}; measure it later with: edgeprune verify BUNDLE")
        if not allow_unverified:
            codes.append(MissingError.exit_code)
    elif measured_ms <= budget_ms:
        status = "met"
    else:
        status = "missed"
        reasons.append(
            f"measured {format_ms(measured_ms)} is over the budget of {format_ms(budget_ms)}; allow more time, or"
            " see what else runs on the device: edgeprune doctor"
        )
        codes.append(OverBudgetError.exit_code)
    if precision == "int8" and float_accuracy is not None and engine_accuracy is not None:
        lost = float_accuracy - engine_accuracy
        if lost > QUANTIZATION_DROP:
            reasons.append(
                f"the quantization is broken: the int8 engine loses {lost * 100:.1f} points to its own float network;"
                " try another --precision"
            )
            codes.append(AccuracyError.exit_code)
    if dense_accuracy is not None and engine_accuracy is not None:
        drop = dense_accuracy - engine_accuracy
        if max_drop is not None and drop > max_drop:
            reasons.append(
                f"accuracy fell by {drop * 100:.1f} points, {max_drop * 100:g} were allowed; train for more"
                " --epochs, or allow more time"
            )
            codes.append(AccuracyError.exit_code)
        elif drop > DROP_WARNED:
            reasons.append(f"accuracy fell by {drop * 100:.1f} points")
    return Verdict(status, codes[0] if codes else 0, tuple(reasons))


def _differences(numerics: Mapping[str, Optional[float]], precision: str) -> Iterator[Tuple[str, int]]:
    """Yield (reason, exit code) for every difference that is too large.

    An int8 engine differs because it is quantized: that is no bug of arithmetic, so it ends with accuracy's exit code,
    unless the outputs are no numbers or of another shape.
    """
    limits = {"slim_vs_masked": SLIM_TOLERANCE, "onnx_vs_torch": ONNX_TOLERANCE}
    if precision != "int8":
        limits["engine_vs_torch"] = TOLERANCE[precision]
    for name, limit in limits.items():
        difference = numerics.get(name)
        if difference is not None and not difference <= limit:
            said = f"numerics: {name} differ by {difference:.2g} of the largest output, {limit:g} is allowed"
            yield f"{said}; {_REMEDY[name]}", NumericsError.exit_code
    difference = numerics.get("engine_vs_torch") if precision == "int8" else None
    if difference is not None and not math.isfinite(difference):
        said = "numerics: the engine's outputs are no numbers, or of another shape"
        yield f"{said}; {_REMEDY['engine_vs_torch']}", NumericsError.exit_code
    elif difference is not None and difference > QUANTIZED_BOUND:
        said = (
            f"the quantization is broken: outputs differ by {difference:.2g} of the largest one from torch's,"
            f" {QUANTIZED_BOUND:g} is the bound; try another --precision"
        )
        yield said, AccuracyError.exit_code
