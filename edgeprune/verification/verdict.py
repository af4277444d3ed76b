"""From numbers to an exit code: met, missed or unverified, and what else is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Mapping, Optional, Tuple

from edgeprune.errors import AccuracyError, MissingError, NumericsError, OverBudgetError, TableError
from edgeprune.units import format_ms
from edgeprune.verification.numerics import INCOMPARABLE, ONNX_TOLERANCE, QUANTIZED_BOUND, TOLERANCE

DROP_WARNED = 0.02
"""Loss of accuracy that is warned about where no floor was given."""

QUANTIZATION_DROP = 0.05
"""An int8 engine that loses so much to the float network which it was made from is broken, whatever was allowed."""

_REMEDY = {
    "onnx_vs_torch": "please report it with the network",
    "engine_vs_torch": "try --precision fp32, or another --target",
}
"""What to do about a difference that is too large."""

_AGAIN = "edgeprune verify BUNDLE"

_UNTRAINED = (
    "the network's weights are those that it was made with, never trained: the latency is true, the choice of channels"
    " and the accuracy say nothing; give trained ones, as with --weights FILE"
)

_UNVERIFIED = (MissingError.exit_code, TableError.exit_code)
"""Exit codes of what could not be verified: something was not there, or the device was busy or another one."""


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
    elsewhere: str = "",
    unjudged: str = "",
    device: str = "local",
    untrained: bool = False,
) -> Verdict:
    """Return the verdict; the first of numerics, latency and accuracy that fails gives the exit code.

    Args:
        budget_ms: the budget.
        measured_ms: the engine's median on the device; None where it could not be measured.
        trusted: whether the device was quiet enough for that number.
        distrust: why not, if not.
        numerics: `onnx_vs_torch`, `engine_vs_torch`: relative differences. Others are not judged here:
            `slim_vs_masked` was where the network was cut (`pruning.slim.checked`).
        precision: of the engine.
        dense_accuracy: top-1 in [0, 1], None without data.
        engine_accuracy: the same of the engine.
        max_drop: accuracy that may be lost, in [0, 1]; None sets no floor.
        allow_unverified: what could not be verified is a success.
        float_accuracy: of the network that an int8 engine was made from; None where it is not known.
        elsewhere: in what the device is another one than that of the budget; empty where it is that one.
        unjudged: why the engine's accuracy is not known though the dense network's is; empty where it is known.
        device: where to measure again.
        untrained: the network's weights were random.
    """
    again = _AGAIN if device == "local" else f"{_AGAIN} --device {device}"
    status, reason, code = _latency(budget_ms, measured_ms, trusted, distrust, again)
    found = [*_differences(numerics, precision), (reason, code)]
    if elsewhere:
        said = f"the device, or its state, is not that of the export: {elsewhere}; only that one verifies the budget"
        found.append((said, TableError.exit_code if status == "met" else 0))
        status = "unverified" if status == "met" else status
    if precision == "int8" and float_accuracy is not None and engine_accuracy is not None:
        found += _quantization(float_accuracy - engine_accuracy)
    found += _accuracy(dense_accuracy, engine_accuracy, max_drop, unjudged)
    if untrained:
        found.append((_UNTRAINED, 0))
    codes = [code for _, code in found if code and not (allow_unverified and code in _UNVERIFIED)]
    return Verdict(status, codes[0] if codes else 0, tuple(reason for reason, _ in found if reason))


def _latency(
    budget_ms: float, measured_ms: float | None, trusted: bool, distrust: str, again: str
) -> Tuple[str, str, int]:
    """Return the status, with the reason and the exit code where it is not `met`."""
    if measured_ms is None:
        said = f"PREDICTED, NOT VERIFIED: {distrust or 'nothing was measured'}; measure it later with: {again}"
        return "unverified", said, MissingError.exit_code
    if not trusted:
        said = f"{format_ms(measured_ms)} was measured and is not to be trusted: {distrust or 'the device was busy'}"
        return "unverified", f"{said}; measure it again with: {again}", TableError.exit_code
    if measured_ms > budget_ms:
        said = (
            f"measured {format_ms(measured_ms)} is over the budget of {format_ms(budget_ms)}; allow more time, or"
            " see what else runs on the device: edgeprune doctor"
        )
        return "missed", said, OverBudgetError.exit_code
    return "met", "", 0


def _quantization(lost: float) -> Iterator[Tuple[str, int]]:
    """Yield (reason, exit code) where an int8 engine has lost too much accuracy to its own float network."""
    if lost > QUANTIZATION_DROP:
        said = f"the quantization is broken: the int8 engine loses {lost * 100:.1f} points to its own float network"
        yield f"{said}; try another --precision", AccuracyError.exit_code


def _accuracy(
    dense: Optional[float], engine: Optional[float], max_drop: Optional[float], unjudged: str
) -> Iterator[Tuple[str, int]]:
    """Yield (reason, exit code) of what was lost to the dense network; 0 for what is only to be known."""
    if dense is None or engine is None:
        if max_drop is not None:
            why = unjudged or "there are no data to measure it on"
            said = f"accuracy is not verified, and may fall by {max_drop * 100:g} points at most: {why}"
            yield said, MissingError.exit_code
        elif unjudged:
            yield f"accuracy is not checked: {unjudged}", 0
        return
    drop = dense - engine
    if max_drop is not None and drop > max_drop:
        said = f"accuracy fell by {drop * 100:.1f} points, {max_drop * 100:g} were allowed; train for more"
        yield f"{said} --epochs, or allow more time", AccuracyError.exit_code
    elif drop > DROP_WARNED:
        yield f"accuracy fell by {drop * 100:.1f} points", 0


_NO_NUMBERS = "there are outputs that are no numbers, or of another shape"


def _differences(numerics: Mapping[str, Optional[float]], precision: str) -> Iterator[Tuple[str, int]]:
    """Yield (reason, exit code) for every difference that is too large.

    An int8 engine differs because it is quantized: that is no bug of arithmetic, so it ends with accuracy's exit code,
    unless the outputs are no numbers or of another shape.
    """
    limits = {"onnx_vs_torch": ONNX_TOLERANCE}
    if precision != "int8":
        limits["engine_vs_torch"] = TOLERANCE[precision]
    for name, limit in limits.items():
        difference = numerics.get(name)
        if difference is not None and difference >= INCOMPARABLE:
            yield f"numerics: {name} can't be compared: {_NO_NUMBERS}; {_REMEDY[name]}", NumericsError.exit_code
        elif difference is not None and not difference <= limit:
            said = f"numerics: {name} differ by {difference:.2g} of the largest output, {limit:g} is allowed"
            yield f"{said}; {_REMEDY[name]}", NumericsError.exit_code
    difference = numerics.get("engine_vs_torch") if precision == "int8" else None
    if difference is not None and difference >= INCOMPARABLE:
        said = f"numerics: engine_vs_torch can't be compared: {_NO_NUMBERS}"
        yield f"{said}; {_REMEDY['engine_vs_torch']}", NumericsError.exit_code
    elif difference is not None and difference > QUANTIZED_BOUND:
        said = (
            f"the quantization is broken: outputs differ by {difference:.2g} of the largest one from torch's,"
            f" {QUANTIZED_BOUND:g} is the bound; try another --precision"
        )
        yield said, AccuracyError.exit_code
