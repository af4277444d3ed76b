"""The widths of most value within the budget, with a certificate; and the floor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeprune.budget.optimum import GAP, Limit, Optimum, least
from edgeprune.budget.problem import Problem
from edgeprune.budget.programme import ROUNDING, Amount
from edgeprune.errors import BudgetError
from edgeprune.units import format_count, format_ms

LATENCY = "--latency"
"""The name of the budget among the limits that bind."""

_LOSS_SCALE = 1e4
_ROW_SCALE = 1e4
_BETTER = 2 * GAP


@dataclass(frozen=True)
class Solution:
    """Widths, and the proof that none are better by more than the gap.

    Attributes:
        widths: group -> channels kept.
        value: sum of the groups' values.
        cost_us: predicted engine time.
        gap: proven: (value lost - lower bound of the value lost) / value lost; None where nothing is proven.
        seconds: that the solver took.
        binding: what holds the plan back: without the budget, or without the tightest limit on the parameters, the
            solver found a better plan in its time.
    """

    widths: dict[str, int]
    value: float
    cost_us: float
    gap: float | None
    seconds: float
    binding: tuple[str, ...] = ()


def solve(problem: Problem, budget: float) -> Solution:
    """Return the widths of greatest value whose predicted cost, and what else is limited, is within the budget.

    Args:
        problem: the programme.
        budget: in the unit of the problem's cost: microseconds, or multiply-accumulates.

    Raises:
        BudgetError: no plan is within it; the message says how near the nearest comes, and what holds it back.
    """
    started = time.perf_counter()
    found = _best(problem, budget, problem.limits)
    if found is None:
        raise unreachable(budget, floor(problem).cost_us, problem.limits)
    solution = _solution(problem, found)
    binding = _binding(problem, budget, solution.value)
    return replace(solution, seconds=time.perf_counter() - started, binding=binding)


def floor(problem: Problem) -> Solution:
    """Return the plan of least cost.

    Raises:
        BudgetError: even the smallest network has more parameters than may be.
    """
    started = time.perf_counter()
    found = least(problem, _scaled(problem.cost), _limits(problem, problem.limits))
    if found is None:
        name, most = min(problem.limits.items(), key=lambda item: item[1])
        raise too_many(name, most, _fewest(problem))
    return replace(_solution(problem, found), seconds=time.perf_counter() - started)


def unreachable(budget_us: float, floor_us: float, limits: Mapping[str, int]) -> BudgetError:
    """Return the error of a budget under the floor."""
    within = f" within {' and '.join(limits)}" if limits else ""
    return BudgetError(
        f"the budget of {format_ms(budget_us / 1000)} is under the floor: "
        f"the fastest plan{within} takes {format_ms(floor_us / 1000)}",
        remedy="allow more time, a lower precision, or more threads",
    )


def too_many(name: str, most: int, fewest: float) -> BudgetError:
    """Return the error of a limit `name` that even the `fewest` parameters of any plan exceed."""
    return BudgetError(
        f"{name} is under what the smallest network needs: it allows {format_count(most)} parameters, "
        f"the smallest plan has {format_count(fewest)}",
        remedy=f"allow more with {name}, or leave out a --lock",
    )


def _fewest(problem: Problem) -> float:
    """Return the parameters of the smallest plan."""
    assert problem.params is not None
    found = least(problem, _scaled(problem.params))
    assert found is not None, "widths without limits are always feasible"
    return problem.params.of(found.variables)


def _best(problem: Problem, budget: float | None, limits: Mapping[str, int]) -> Optimum | None:
    """Return the best variables within a budget, if there is one, and limits; None where there are none."""
    held = _limits(problem, limits)
    if budget is not None:
        held.append(_at_most(problem.cost, budget))
    return least(problem, _loss(problem), held)


def _binding(problem: Problem, budget: float, value: float) -> tuple[str, ...]:
    """Return whether the value would rise without the budget, or without what limits the parameters most.

    By more, that is, than the gap of what is lost.
    """
    dense = sum(
        float(problem.value[problem.offsets[name] : problem.offsets[name] + len(choices)].max())
        for name, choices in problem.widths.items()
    )
    lost = dense - value
    if lost <= GAP * dense:
        return ()
    if not problem.limits:
        return (LATENCY,)
    tightest = min(problem.limits, key=problem.limits.__getitem__)
    without = {LATENCY: _most_value(problem, None, problem.limits), tightest: _most_value(problem, budget, {})}
    return tuple(name for name, most in without.items() if most > value + _BETTER * lost)


def _most_value(problem: Problem, budget: float | None, limits: Mapping[str, int]) -> float:
    """Return the value of what `_best` finds; minus infinity where it finds nothing in its time."""
    try:
        found = _best(problem, budget, limits)
    except BudgetError:
        found = None
    return -np.inf if found is None else float(problem.value @ found.variables)


def _limits(problem: Problem, limits: Mapping[str, int]) -> list[Limit]:
    """Return the tightest limit on the parameters, if there is one."""
    if not limits:
        return []
    assert problem.params is not None
    return [_at_most(problem.params, min(limits.values()) + 0.5)]


def _at_most(amount: Amount, most: float) -> Limit:
    """Return the limit, a rounding error wider, and scaled where its numbers are large.

    HiGHS takes 1e-6 of a row for nothing.
    """
    scale = max(1.0, float(np.abs(amount.each).max(initial=0.0)) / _ROW_SCALE)
    return Limit(amount.each / scale, (most + ROUNDING * abs(most) - amount.constant) / scale)


def _scaled(amount: Amount) -> np.ndarray:
    return np.asarray(amount.each / max(float(np.abs(amount.each).max(initial=0.0)), 1e-30))


def _loss(problem: Problem) -> np.ndarray:
    """Return what each choice loses against its group's best: a gap relative to the value kept would hide most of it.

    Scaled, because HiGHS also stops at an absolute gap of 1e-6.
    """
    loss = np.zeros(len(problem.value))
    for name, choices in problem.widths.items():
        own = slice(problem.offsets[name], problem.offsets[name] + len(choices))
        loss[own] = problem.value[own].max() - problem.value[own]
    return loss * (_LOSS_SCALE / max(float(loss.max(initial=0.0)), 1e-30))


def _solution(problem: Problem, found: Optimum) -> Solution:
    variables = found.variables
    return Solution(
        problem.widths_of(variables), float(problem.value @ variables), problem.cost.of(variables), found.gap, 0.0
    )
