"""Why a budget can't be reached: what the fastest plan still spends its time on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.budget.solve import Solution, unreachable
from edgeprune.budget.strategies import Search
from edgeprune.errors import BudgetError
from edgeprune.latency.predict import NetworkTable
from edgeprune.units import format_ms

_SHOWN = 3

LayerMs = tuple[str, float]
"""A layer's name and its milliseconds."""


@dataclass(frozen=True)
class FloorParts:
    """What the fastest plan spends its time on, each part's slowest layers first.

    Attributes:
        narrow: layers that some group reaches, at their narrowest.
        fixed: layers that no width changes.
        runtime_ms: what no layer explains.
    """

    narrow: Sequence[LayerMs]
    fixed: Sequence[LayerMs]
    runtime_ms: float

    def to_json(self) -> dict[str, Any]:
        """Return milliseconds by part, and the slowest layers of each."""
        return {
            "narrow": sum(ms for _, ms in self.narrow),
            "fixed": sum(ms for _, ms in self.fixed),
            "runtime": self.runtime_ms,
            "layers": {"narrow": dict(self.narrow[:_SHOWN]), "fixed": dict(self.fixed[:_SHOWN])},
        }

    def __str__(self) -> str:
        parts = []
        for rows, what in ((self.narrow, "in layers at their narrowest"), (self.fixed, "in layers of one width")):
            if rows:
                largest = ", ".join(f"{name} {format_ms(ms)}" for name, ms in rows[:_SHOWN])
                more = " ..." if len(rows) > _SHOWN else ""
                parts.append(f"{format_ms(sum(ms for _, ms in rows))} {what} ({largest}{more})")
        if self.runtime_ms > 0:
            parts.append(f"{format_ms(self.runtime_ms)} in the runtime itself")
        return ", ".join(parts)


def floor_parts(table: NetworkTable, fastest: Solution, drift: float = 1.0) -> FloorParts:
    """Return what the fastest plan spends its time on.

    Args:
        table: what the layers cost.
        fastest: from `Search.fastest`.
        drift: factor from the table's times to those of now.
    """
    parts: dict[bool, list[LayerMs]] = {True: [], False: []}
    for row, us, _ in table.layers(dict(table.dense.widths) | fastest.widths):
        reached = any(set(fastest.widths) & set(axis.parts) for axis in row.axes)
        parts[reached].append((row.name, us / 1000 * drift))
    narrow, fixed = (sorted(parts[one], key=lambda layer: -layer[1]) for one in (True, False))
    return FloorParts(narrow, fixed, table.fixed_us / 1000 * drift)


def best_or_why_not(
    found: Search, table: NetworkTable, budget_us: float, ways_out: Callable[[float], str], drift: float = 1.0
) -> Solution:
    """Return the widths that a search finds within the budget.

    Args:
        found: the search on `table`.
        table: what the layers cost.
        budget_us: the budget, where the dense network takes what the table says.
        ways_out: what would help, for a floor in milliseconds.
        drift: factor from the table's times to those of now.

    Raises:
        BudgetError: no plan is that fast, or small enough; the message says what holds it back.
    """
    try:
        return found.best(budget_us)
    except BudgetError:
        fastest = found.fastest()
        if fastest.cost_us <= budget_us:
            raise
    error = unreachable(budget_us * drift, fastest.cost_us * drift, found.limits)
    parts = floor_parts(table, fastest, drift)
    raise BudgetError(
        f"{error.message}; the floor is made up of {parts}", remedy=ways_out(fastest.cost_us / 1000 * drift)
    )
