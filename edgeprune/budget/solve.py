"""The widths of most value within the budget, with a certificate; and the floor."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from edgeprune.budget.problem import Problem
from edgeprune.errors import BudgetError
from edgeprune.units import format_ms

GAP = 5e-4
TIME_LIMIT_S = 20.0
_LOSS_SCALE = 1e4


@dataclass(frozen=True)
class Solution:
    """Widths, and the proof that none are better by more than the gap.

    Attributes:
        widths: group -> channels kept.
        value: sum of the groups' values.
        cost_us: predicted engine time.
        gap: relative distance of the value lost to the least that could not be ruled out.
        seconds: that the solver took.
    """

    widths: dict[str, int]
    value: float
    cost_us: float
    gap: float
    seconds: float


def solve(problem: Problem, budget_us: float) -> Solution:
    """Return the widths of greatest value whose predicted time is within `budget_us`.

    Raises:
        BudgetError: no plan is that fast; the message says how fast the fastest is.
    """
    if not problem.widths:
        if problem.fixed_us <= budget_us:
            return Solution({}, 0.0, problem.fixed_us, 0.0, 0.0)
        raise _unreachable(budget_us, problem.fixed_us)
    started = time.perf_counter()
    within = LinearConstraint(csr_array(problem.cost_us[None, :]), ub=budget_us - problem.fixed_us)
    found = _milp(problem, _loss(problem), [within])
    if found is None:
        raise _unreachable(budget_us, floor(problem).cost_us)
    solution, gap = found
    return _solution(problem, solution, gap, time.perf_counter() - started)


def floor(problem: Problem) -> Solution:
    """Return the fastest plan."""
    if not problem.widths:
        return Solution({}, 0.0, problem.fixed_us, 0.0, 0.0)
    started = time.perf_counter()
    scale = max(float(np.abs(problem.cost_us).max()), 1e-30)
    found = _milp(problem, problem.cost_us / scale, [])
    assert found is not None, "widths without a budget are always feasible"
    solution, gap = found
    return _solution(problem, solution, gap, time.perf_counter() - started)


def _loss(problem: Problem) -> np.ndarray:
    """Return what each choice loses against its group's best: a gap relative to the value kept would hide most of it.

    Scaled, because HiGHS also stops at an absolute gap of 1e-6.
    """
    loss = np.zeros(len(problem.value))
    for name, choices in problem.widths.items():
        own = slice(problem.offsets[name], problem.offsets[name] + len(choices))
        loss[own] = problem.value[own].max() - problem.value[own]
    return loss * (_LOSS_SCALE / max(float(loss.max()), 1e-30))


def _milp(problem: Problem, objective: np.ndarray, extra: list[LinearConstraint]) -> tuple[np.ndarray, float] | None:
    constraints = [LinearConstraint(problem.equalities, problem.right, problem.right), *extra]
    if problem.bounds.shape[0]:
        constraints.append(LinearConstraint(problem.bounds, ub=0.0))
    result = milp(
        objective,
        integrality=problem.integral,
        bounds=Bounds(0.0, problem.upper),
        constraints=constraints,
        options={"mip_rel_gap": GAP, "time_limit": TIME_LIMIT_S},
    )
    if result.x is None:
        return None
    return result.x, float(result.mip_gap or 0.0)


def _solution(problem: Problem, solution: np.ndarray, gap: float, seconds: float) -> Solution:
    return Solution(
        problem.widths_of(solution),
        float(problem.value @ solution),
        problem.fixed_us + float(problem.cost_us @ solution),
        gap,
        seconds,
    )


def _unreachable(budget_us: float, floor_us: float) -> BudgetError:
    return BudgetError(
        f"the budget of {format_ms(budget_us / 1000)} is under the floor: "
        f"the fastest plan takes {format_ms(floor_us / 1000)}",
        remedy="allow more time, a lower precision, or more threads",
    )
