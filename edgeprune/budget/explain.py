"""Why a budget can't be reached: what the fastest plan still spends its time on."""

from __future__ import annotations

from edgeprune.budget.problem import Problem
from edgeprune.budget.solve import Solution, floor, solve
from edgeprune.errors import BudgetError
from edgeprune.latency.predict import NetworkTable
from edgeprune.units import format_ms

_SHOWN = 3


def solve_or_explain(problem: Problem, table: NetworkTable, budget_us: float) -> Solution:
    """Return the widths of most value within the budget.

    Raises:
        BudgetError: no plan is that fast; the message holds the floor and what makes it up.
    """
    try:
        return solve(problem, budget_us)
    except BudgetError as error:
        raise BudgetError(f"{error.message}; {made_up_of(problem, table)}", remedy=error.remedy) from None


def made_up_of(problem: Problem, table: NetworkTable) -> str:
    """Return in words what the fastest plan spends its time on: fixed layers, narrow layers, the runtime itself."""
    widths = {name: int(choices[-1]) for name, choices in problem.widths.items()} | floor(problem).widths
    full = dict(table.dense.widths) | widths
    open_groups = set(problem.widths)
    fixed: list[tuple[float, str]] = []
    narrow: list[tuple[float, str]] = []
    for row, us, _ in table.layers(full):
        reached = any(open_groups & set(axis.parts) for axis in row.axes)
        (narrow if reached else fixed).append((us, row.name))
    parts = []
    for rows, what in ((narrow, "at their narrowest"), (fixed, "in layers that no width changes")):
        if rows:
            largest = ", ".join(f"{name} {format_ms(us / 1000)}" for us, name in sorted(rows, reverse=True)[:_SHOWN])
            parts.append(f"{format_ms(sum(us for us, _ in rows) / 1000)} {what} ({largest} ...)")
    parts.append(f"{format_ms(table.fixed_us / 1000)} in the runtime itself")
    return "the floor is made up of " + ", ".join(parts)
