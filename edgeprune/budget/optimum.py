"""The least of a linear objective over a programme: exact, and quick because most choices are ruled out beforehand.

Where the groups can be eliminated one after the other and there is one limit at most, `budget/knapsack.py` finds it.
Where that takes too large tables, and for a second limit, there is branch and bound. The relaxation gives
a lower bound, and for every choice how much more than the bound a plan with it costs at least: its excess. Plans that
cost at most `reach` more than the bound are made of choices whose excess is within it, and only those choices are given
to branch and bound, which takes its time from the size of the programme. If the best plan made of them is within reach,
it is the best of all; if not, the reach grows, and only a better plan with one of the choices that were added is looked
for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, linprog, milp
from scipy.sparse import csc_array, vstack

from edgeprune.budget.elimination import Elimination
from edgeprune.budget.knapsack import Knapsack, gap_of
from edgeprune.budget.problem import Problem
from edgeprune.errors import BudgetError
from edgeprune.muting import muted_stdout

GAP = 1e-3
"""A plan that is proven to be within this share of the optimum is good enough ..."""

_SEARCHED = 0.9 * GAP
"""... and branch and bound goes on to a little less, so that rounding does not ask for another one."""

TIME_LIMIT_S = 20.0

_REACH = 3e-3
"""The reach to begin with, as a share of the bound; a bound under one is taken for one."""

_GROWTH = 4.0
"""How much the reach grows at most: by the first plan that was found it may seem to need far more than it does."""

_INFEASIBLE = 2
"""What the solver says where it has proven that there is no plan."""


@dataclass(frozen=True)
class Optimum:
    """Variables, and how far from the best they may be.

    Attributes:
        variables: one value each.
        gap: distance of the objective to the least that could not be ruled out, as a share of the objective.
    """

    variables: np.ndarray
    gap: float


@dataclass(frozen=True, eq=False)
class Limit:
    """A limit on what a plan takes: `each @ variables <= most`."""

    each: np.ndarray
    most: float


def least(problem: Problem, objective: np.ndarray, limits: Sequence[Limit] = ()) -> Optimum | None:
    """Return the variables of least objective within the limits, or None if there are none.

    Args:
        problem: the programme.
        objective: a coefficient for every variable; the sums are of the order of one or more.
        limits: on what a plan takes, beside the programme's own constraints.

    Raises:
        BudgetError: the solver ended, after `TIME_LIMIT_S` or of itself, with neither a plan nor a proof that there is
            none.
    """
    if not problem.widths:
        within = all(limit.most >= 0 for limit in limits)
        return Optimum(np.zeros(0), 0.0) if within else None
    deadline = time.perf_counter() + TIME_LIMIT_S
    if problem.elimination is None or len(limits) > 1:
        return _branched(problem, objective, limits, deadline)
    found = _eliminated(problem.elimination, objective, *limits)
    if found is None or found.gap <= GAP or problem.by_sums:
        return found
    try:
        other = _branched(problem, objective, limits, deadline) or found
    except BudgetError:
        return found
    return _better(found, other, objective)


def _eliminated(elimination: Elimination, objective: np.ndarray, limit: Limit | None = None) -> Optimum | None:
    """Return what `least` does, by `budget/knapsack.py`, with a large gap where half of the time is too little."""
    limit = limit or Limit(np.zeros(len(objective)), 0.0)
    knapsack = Knapsack(elimination, objective, limit.each, limit.most)
    found = knapsack.least(_SEARCHED, time.perf_counter() + TIME_LIMIT_S / 2)
    return None if found is None else Optimum(elimination.variables(found.places, len(objective)), found.gap)


def _better(one: Optimum, other: Optimum, objective: np.ndarray) -> Optimum:
    """Return the better of two plans, with what the two prove together."""
    lost = [float(objective @ each.variables) for each in (one, other)]
    bound = max(each * (1 - found.gap) for each, found in zip(lost, (one, other), strict=True))
    best = one if lost[0] <= lost[1] else other
    return replace(best, gap=gap_of(min(lost), bound))


def _branched(problem: Problem, objective: np.ndarray, limits: Sequence[Limit], deadline: float) -> Optimum | None:
    """Return what `least` does, by the relaxation and branch and bound."""
    system = _System(problem, objective, limits)
    with muted_stdout():
        relaxed = system.relax()
        if relaxed.x is None:  # a limit that just can be met may be missed by the relaxation's tolerance
            excess, bound, reach = np.zeros(len(objective)), -np.inf, np.inf
        else:
            excess, bound = _excess(problem, np.maximum(relaxed.lower.marginals, 0.0)), relaxed.fun
            reach = _REACH * max(bound, 1.0)
        best, low = None, np.inf  # and `low` the bound of the plans that were looked for
        tried = np.zeros(len(objective), dtype=bool)
        while True:
            kept = excess <= reach
            better = (1 - _SEARCHED) * best.fun if best else np.inf
            found = system.solve(kept, deadline - time.perf_counter(), added=kept & ~tried, better=better)
            ruled_out = found.x is None and found.status == _INFEASIBLE
            if found.x is not None:
                low = min(low, found.mip_dual_bound)
                best = found if best is None or found.fun < best.fun else best
            elif best:
                low = min(low, better if ruled_out else bound)
            late = time.perf_counter() >= deadline
            if best:
                gap = gap_of(best.fun, low if kept.all() else min(low, bound + reach))
                if late or kept.all() or gap <= GAP:
                    return Optimum(best.x, gap)
            if kept.all() and ruled_out:
                return None
            if kept.all() or late:
                seconds = TIME_LIMIT_S - (deadline - time.perf_counter())
                raise BudgetError(
                    f"the solver stopped after {seconds:.0f} s without a plan in the budget, or a proof that none is",
                    remedy="allow more time, or consider fewer widths with --align",
                )
            if found.x is not None or ruled_out:
                tried = kept
            enough = (1 - _SEARCHED) * best.fun - bound if best else np.inf
            reach = enough if reach < enough < _GROWTH * reach else _GROWTH * reach


class _System:
    """A programme, an objective and limits, as the solvers take them."""

    def __init__(self, problem: Problem, objective: np.ndarray, limits: Sequence[Limit]) -> None:
        self.objective = objective
        self.integral = problem.integral
        self.upper = problem.upper
        self.equalities = csc_array(problem.equalities)
        self.right = problem.right
        rows = [csc_array(limit.each[None, :]) for limit in limits]
        self.below = csc_array(vstack([*rows, problem.bounds]))
        self.most = np.append([limit.most for limit in limits], np.zeros(problem.bounds.shape[0]))

    def relax(self) -> OptimizeResult:
        """Solve with fractions; the equalities keep all variables under their upper bounds."""
        return linprog(
            self.objective,
            A_ub=self.below,
            b_ub=self.most,
            A_eq=self.equalities,
            b_eq=self.right,
            bounds=(0.0, None),
            method="highs-ds",
            options={"time_limit": TIME_LIMIT_S},
        )

    def solve(self, kept: np.ndarray, seconds: float, *, added: np.ndarray, better: float) -> OptimizeResult:
        """Solve over some of the variables; the others are zero.

        Args:
            kept: which.
            seconds: to take at most.
            added: of those, the ones of which a plan must have some, unless they are all that is kept.
            better: the most that the objective may be.
        """
        columns = np.flatnonzero(kept)
        rows, most = [self.below[:, columns]], [self.most]
        if np.isfinite(better):
            rows.append(csc_array(self.objective[columns][None, :]))
            most.append(np.array([better]))
        if not added[columns].all():
            rows.append(csc_array(-added[columns].astype(np.float64)[None, :]))
            most.append(np.array([-1.0]))
        found = milp(
            self.objective[columns],
            integrality=self.integral[columns],
            bounds=Bounds(0.0, self.upper[columns]),
            constraints=[
                LinearConstraint(self.equalities[:, columns], self.right, self.right),
                LinearConstraint(csc_array(vstack(rows)), ub=np.concatenate(most)),
            ],
            options={"mip_rel_gap": _SEARCHED, "time_limit": max(seconds, 0.1)},
        )
        if found.x is not None:
            variables = np.zeros(len(kept))
            variables[columns] = found.x
            found.x = variables
        return found


def _excess(problem: Problem, reduced: np.ndarray) -> np.ndarray:
    """Return for every variable how much more than the bound a plan with it costs at least.

    A plan costs the bound and the reduced costs of all that is in it. A width is in it together with one pair of its
    own and one width of every group that it is paired with, whichever those are. Inflows are never ruled out by
    themselves, since a plan may have a part of one; they go with their width.

    Args:
        problem: the programme.
        reduced: the variables' reduced costs, none negative.
    """
    cells, ends = problem.pairs[0], problem.pairs[1:]
    chosen = np.flatnonzero(problem.owners >= 0)
    place = np.cumsum(problem.owners >= 0) - 1
    beside = np.full((len(chosen), problem.owners.max() + 1), np.inf)
    for own, other in (ends, ends[::-1]):
        np.minimum.at(beside, (place[own], problem.owners[other]), reduced[cells] + reduced[other])
    excess = np.zeros(len(reduced))
    excess[chosen] = reduced[chosen] + np.where(np.isfinite(beside), beside, 0.0).sum(1)
    excess[cells] = np.maximum(reduced[cells], excess[ends].max(0, initial=0.0))
    return excess
