"""From numbers to an exit code: met, missed or unverified, and what else is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.errors import AccuracyError, MissingError, NumericsError, OverBudgetError
from edgeprune.units import format_ms
from edgeprune.verification.numerics import ONNX_TOLERANCE, SLIM_TOLERANCE, TOLERANCE

DROP_WARNED = 0.02
"""Loss of accuracy that is warned about where no floor was given."""


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
    """
    reasons, codes = [], []
    limits = {
        "slim_vs_masked": SLIM_TOLERANCE,
        "onnx_vs_torch": ONNX_TOLERANCE,
        "engine_vs_torch": TOLERANCE[precision],
    }
    for name, limit in limits.items():
        difference = numerics.get(name)
        if difference is not None and not difference <= limit:
            reasons.append(f"numerics: {name} differ by {difference:.2g} of the largest output, {limit:g} is allowed")
            codes.append(NumericsError.exit_code)
    if measured_ms is None or not trusted:
        status = "unverified"
        why = "nothing was measured" if measured_ms is None else distrust or "the device was busy"
        reasons.append(f"PREDICTED, NOT VERIFIED: {why}")
        if not allow_unverified:
            codes.append(MissingError.exit_code)
    elif measured_ms <= budget_ms:
        status = "met"
    else:
        status = "missed"
        reasons.append(f"measured {format_ms(measured_ms)} is over the budget of {format_ms(budget_ms)}")
        codes.append(OverBudgetError.exit_code)
    if dense_accuracy is not None and engine_accuracy is not None:
        drop = dense_accuracy - engine_accuracy
        if max_drop is not None and drop > max_drop:
            reasons.append(f"accuracy fell by {drop * 100:.1f} points, {max_drop * 100:g} were allowed")
            codes.append(AccuracyError.exit_code)
        elif drop > DROP_WARNED:
            reasons.append(f"accuracy fell by {drop * 100:.1f} points")
    return Verdict(status, codes[0] if codes else 0, tuple(reasons))
