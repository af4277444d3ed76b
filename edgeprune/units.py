"""Text with units <-> numbers: the only place that parses or prints a unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Sequence

from edgeprune.errors import InputError

_MS_PER = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_BYTES_PER = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_NUMBER = r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"


@dataclass(frozen=True)
class LatencyBudget:
    """A latency that is asked for: so many milliseconds, or a share of the dense network's own.

    Exactly one of `ms` (milliseconds) and `fraction` (of the dense network's measured latency) is set.
    """

    ms: float | None = None
    fraction: float | None = None

    def of(self, dense_ms: float) -> float:
        """Return the budget in milliseconds for a dense network that takes `dense_ms`."""
        if self.ms is not None:
            return self.ms
        assert self.fraction is not None
        return self.fraction * dense_ms

    def __str__(self) -> str:
        return f"{self.ms:.12g}ms" if self.fraction is None else f"{self.fraction * 100:.12g}%"


def parse_latency(text: str) -> LatencyBudget:
    """Parse `10ms`, `800us`, `0.01s` or `60%`.

    Raises:
        InputError: no unit, no number, or not above zero and finite.
    """
    match = re.fullmatch(f"(-?)\\s*{_NUMBER}" + r"\s*(us|µs|ms|s|%)?", text.strip())
    if match is None:
        raise InputError(f"latency {text!r} is not a number with a unit", remedy="write it like 10ms, 800us or 60%")
    number, unit = float(match[2]), match[3]
    if unit is None:
        raise InputError(f"latency {text!r} has no unit", remedy=f"did you mean {text.strip()}ms?")
    if match[1] or not 0 < number < math.inf:
        raise InputError(f"latency {text!r} is not above zero and finite", remedy="write it like 10ms, 800us or 60%")
    if unit == "%":
        return LatencyBudget(fraction=number / 100)
    return LatencyBudget(ms=number * _MS_PER[unit])


def parse_latencies(text: str) -> list[LatencyBudget]:
    """Parse a comma-separated ladder of budgets, such as `10ms,8ms,60%`."""
    return [parse_latency(part) for part in text.split(",")]


def parse_share(text: str) -> float:
    """Parse `40%` into 0.4.

    Raises:
        InputError: not a number with a percent sign.
    """
    match = re.fullmatch(_NUMBER + r"\s*%", text.strip())
    if match is None or not math.isfinite(float(match[1])):
        raise InputError(f"share {text!r} is not a number of percent", remedy="write it like 40%")
    return float(match[1]) / 100


def parse_bytes(text: str) -> int:
    """Parse `25MB`, `512KiB` ... into bytes.

    Raises:
        InputError: not a number with a unit of size.
    """
    match = re.fullmatch(_NUMBER + r"\s*((?:[kmg]i?)?b)", text.strip().lower())
    if match is None or not math.isfinite(float(match[1])):
        raise InputError(f"size {text!r} is not a number with a unit", remedy="write it like 25MB or 512KiB")
    return int(float(match[1]) * _BYTES_PER[match[2]])


def parse_shape(text: str) -> tuple[int, ...]:
    """Parse `1x3x224x224` into (1, 3, 224, 224).

    Raises:
        InputError: not positive whole numbers joined by x.
    """
    parts = text.strip().lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"shape {text!r} is not positive numbers joined by x", remedy="write it like 1x3x224x224")
    return tuple(int(part) for part in parts)


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape as it is typed: (1, 3, 224, 224) -> '1x3x224x224'."""
    return "x".join(map(str, shape))


def parse_floats(text: str) -> tuple[float, ...]:
    """Parse `.485,.456,.406` into floats.

    Raises:
        InputError: one part is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{text!r} is not numbers separated by commas", remedy="write it like .485,.456,.406"
        ) from None


def format_ms(ms: float) -> str:
    """Return three significant digits with the unit: 0.0423 -> '42.3 us', 12.34 -> '12.3 ms', 1234 -> '1234 ms'."""
    rounded = _three_digits(ms)
    if abs(rounded) < 0.1:
        return f"{rounded * 1e3:.3g} us"
    return f"{rounded:.3g} ms" if abs(rounded) < 1000 else f"{ms:.0f} ms"


def ceil_ms(ms: float) -> str:
    """Return a latency as it is typed, three significant digits and never less than `ms`: 1.2341 -> '1.24ms'."""
    step = 10.0 ** (math.floor(math.log10(ms)) - 2)
    return f"{math.ceil(ms / step) * step:.12g}ms"


def format_count(count: float) -> str:
    """Return three significant digits with k, M, G or T: 41_300_000 -> '41.3 M'."""
    rounded = _three_digits(count)
    for factor, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(rounded) >= factor:
            return f"{rounded / factor:.3g}{letter}"
    return f"{rounded:g}"


def format_bytes(count: float) -> str:
    """Return three significant digits with the unit: 25_400_000 -> '25.4 MB'."""
    return f"{format_count(count)}B" if _three_digits(count) >= 1e3 else f"{count:g} B"


def format_percent(fraction: float) -> str:
    """Return one decimal: 0.9264 -> '92.6 %'."""
    return f"{fraction * 100:.1f} %"


def format_seconds(seconds: float) -> str:
    """Return '42 s', '3 min 05 s' or '1 h 02 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _three_digits(value: float) -> float:
    """Round before the unit is chosen: 999_999 is 1 M, not 1000 k."""
    return float(f"{value:.3g}")
