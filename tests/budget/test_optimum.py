"""The least of an objective, against all combinations, and what is left to search through."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.budget.optimum import GAP, Limit, least
from edgeprune.budget.problem import Problem
from edgeprune.budget.programme import Programme, Terms
from edgeprune.errors import BudgetError
from edgeprune.graph.layers import Axis

GROUPS, WIDTHS = 5, 6
RING = [(at, (at + 1) % GROUPS) for at in range(GROUPS)]


class Ring:
    """Five groups of six widths, each of which costs something together with the next one's.

    Args:
        lost: loss at each width, shape (groups, widths).
        costs: shape (groups, widths, widths of the next group).
    """

    def __init__(self, lost: np.ndarray, costs: np.ndarray) -> None:
        names = [f"g{at}" for at in range(GROUPS)]
        programme = Programme({name: np.arange(WIDTHS) for name in names})
        time = Terms()
        for (one, other), each in zip(RING, costs, strict=True):
            time.add(programme.pair(names[one], names[other]), each)
        self.cost = time.amount(programme.count)
        self.objective = np.zeros(programme.count)
        self.objective[: GROUPS * WIDTHS] = lost.ravel()
        self.problem = Problem.of(programme, -self.objective, self.cost)
        self.branched = replace(self.problem, elimination=None)
        grid = np.indices((WIDTHS,) * GROUPS).reshape(GROUPS, -1)
        self.lost = sum(lost[at][grid[at]] for at in range(GROUPS))
        self.costs = sum(each[grid[one], grid[other]] for (one, other), each in zip(RING, costs, strict=True))

    def best(self, budget: float) -> float:
        """Return the least loss of all combinations within a budget."""
        return float(self.lost[self.costs <= budget].min())


def ring(seed: int) -> Ring:
    """Wider costs more and loses less, by irregular steps."""
    random = np.random.default_rng(seed)
    lost = np.cumsum(random.integers(0, 40, (GROUPS, WIDTHS)), 1)[:, ::-1]
    one, other = np.cumsum(random.integers(0, 9, (2, GROUPS, WIDTHS)), 2)
    return Ring(
        lost - lost.min(), one[:, :, None] * other[:, None, :] + random.integers(0, 9, (GROUPS, WIDTHS, WIDTHS))
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_equals_the_best_of_all_combinations(seed: int, share: float) -> None:
    one = ring(seed)
    budget = np.floor(one.costs.min() + share * (one.costs.max() - one.costs.min())) + 0.5
    for problem in (one.problem, one.branched):
        found = least(problem, one.objective, [Limit(one.cost.each, budget)])
        assert found is not None
        assert found.gap <= GAP
        assert one.cost.of(found.variables) <= budget
        lost = float(one.objective @ found.variables)
        assert lost == pytest.approx(one.best(budget), rel=GAP, abs=1e-6)
        assert lost - one.best(budget) <= found.gap * lost + 1e-6


class Mixed:
    """Five groups: two paired; one, while another is there, paired with a third; three flowing into that one."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        widths = {f"g{at}": np.unique([0, *random.integers(1, 12, 3)]) for at in range(GROUPS)}
        widths["g0"] *= 2  # halves of it are whole channels
        programme, time = Programme(widths), Terms()
        each = {"g0": float(random.choice([0.5, 1, 2])), "g1": 1.0, "g2": 1.0}
        slopes = random.uniform(0, 8, len(widths["g3"]))
        time.add(programme.inflow(Axis(0, each), "g3"), slopes)
        pair = programme.pair("g0", "g1")
        paired = random.uniform(0, 60, pair.shape)
        time.add(pair, paired)
        there = programme.gated("g2", "g4")
        while_there = random.uniform(0, 20, (len(programme.widths[there]), len(widths["g3"])))
        while_there[0] = 0.0
        time.add(programme.pair(there, "g3"), while_there)
        self.cost = time.amount(programme.count)
        self.objective = np.zeros(programme.count)
        for name, choices in widths.items():
            self.objective[programme.chosen(name)] = np.sort(random.exponential(50, len(choices)))[::-1]
        self.problem = Problem.of(programme, -self.objective, self.cost)
        lost, costs = [], []
        for places in itertools.product(*(range(len(choices)) for choices in widths.values())):
            at = dict(zip(widths, places, strict=True))
            comes_in = sum(count * widths[name][at[name]] for name, count in each.items())
            inner = at["g2"] if at["g4"] > 0 else 0
            costs.append(slopes[at["g3"]] * comes_in + paired[at["g0"], at["g1"]] + while_there[inner, at["g3"]])
            lost.append(sum(self.objective[programme.offsets[name] + place] for name, place in at.items()))
        self.lost, self.costs = np.array(lost), np.array(costs)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.9))
def test_inflows_and_groups_that_others_empty(seed: int, share: float) -> None:
    one = Mixed(seed)
    budget = float(np.quantile(one.costs, share)) + 1e-3
    found = least(one.problem, one.objective, [Limit(one.cost.each, budget)])
    assert found is not None
    best = float(one.lost[one.costs <= budget].min())
    value = float(one.objective @ found.variables)
    assert value == pytest.approx(best, rel=2 * GAP, abs=1e-5)
    assert (value - best) / value <= found.gap + 1e-6
    fastest = least(one.problem, one.cost.each / np.abs(one.cost.each).max())
    assert fastest is not None
    assert one.cost.of(fastest.variables) == pytest.approx(one.costs.min(), rel=GAP, abs=1e-3)


def test_a_search_that_ends_without_an_answer_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1 is the solver's time limit, 4 an error of its own; either way all was to be looked through at once, or in parts.
    for status, limits in itertools.product((1, 4), ([0.5], [-0.5])):
        ended = scipy.optimize.OptimizeResult(x=None, status=status)
        monkeypatch.setattr("edgeprune.budget.optimum.milp", lambda *_, ended=ended, **__: ended)
        one = ring(0)
        with pytest.raises(BudgetError, match="stopped after 0 s without a plan in the budget, or a proof"):
            least(one.branched, one.objective, [Limit(one.cost.each, float(one.costs.min()) + most) for most in limits])


def test_what_was_not_ruled_out_is_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver gives up once, over some of the choices: the best plan may be made of these alone."""
    gave_up: list[int] = []

    def milp(objective: np.ndarray, **options: Any) -> scipy.optimize.OptimizeResult:
        if not gave_up:
            gave_up.append(len(objective))
            return scipy.optimize.OptimizeResult(x=None, status=4)
        return scipy.optimize.milp(objective, **options)

    one = ring(5)
    budget = float(np.quantile(one.costs, 0.02))
    monkeypatch.setattr("edgeprune.budget.optimum.milp", milp)
    found = least(one.branched, one.objective, [Limit(one.cost.each, budget)])
    assert found is not None
    assert gave_up[0] < len(one.objective)
    assert one.objective @ found.variables == pytest.approx(one.best(budget), rel=GAP)


def test_there_are_none_under_the_least() -> None:
    one = ring(0)
    for problem in (one.problem, one.branched):
        assert least(problem, one.objective, [Limit(one.cost.each, float(one.costs.min()) - 0.5)]) is None


def test_what_just_can_be_met_is_met() -> None:
    one = ring(0)
    floor = float(one.costs.min())
    for problem in (one.problem, one.branched):
        found = least(problem, one.objective, [Limit(one.cost.each, floor)])
        assert found is not None
        assert one.cost.of(found.variables) == pytest.approx(floor)


def test_what_hangs_together_too_much_for_elimination_is_branched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.budget.problem._LARGEST", WIDTHS**3 - 1)  # a ring's largest table is of three groups
    one = ring(4)
    assert one.problem.elimination is None
    budget = float(np.quantile(one.costs, 0.3))
    found = least(one.problem, one.objective, [Limit(one.cost.each, budget)])
    assert found is not None
    assert one.objective @ found.variables == pytest.approx(one.best(budget), rel=GAP)


def test_where_too_many_partial_plans_are_left_it_is_branched(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ring(3)
    budget = float(np.quantile(one.costs, 0.4))
    monkeypatch.setattr("edgeprune.budget.knapsack._LABELS_MAX", 0)
    found = least(one.problem, one.objective, [Limit(one.cost.each, budget)])
    assert found is not None
    assert found.gap <= GAP
    assert one.objective @ found.variables == pytest.approx(one.best(budget), rel=GAP)


def test_a_plan_in_hand_is_not_lost_where_branching_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ring(3)
    budget = float(np.quantile(one.costs, 0.4))
    monkeypatch.setattr("edgeprune.budget.knapsack._LABELS_MAX", 0)
    ended = scipy.optimize.OptimizeResult(x=None, status=1)
    monkeypatch.setattr("edgeprune.budget.optimum.milp", lambda *_, **__: ended)
    found = least(one.problem, one.objective, [Limit(one.cost.each, budget)])
    assert found is not None
    assert found.gap > GAP
    assert one.cost.of(found.variables) <= budget
    lost = float(one.objective @ found.variables)
    assert lost * (1 - found.gap) <= one.best(budget) <= lost


def test_most_choices_are_not_searched_through(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def milp(objective: np.ndarray, **options: Any) -> scipy.optimize.OptimizeResult:
        sizes.append(len(objective))
        return scipy.optimize.milp(objective, **options)

    monkeypatch.setattr("edgeprune.budget.optimum.milp", milp)
    # Two groups are free of each other: a loses 0 or 100 and b the same, costs 10 or 0; the budget allows one of them,
    # and the relaxation takes half of both. So the best plan loses 100 by the bound of 100, and nothing is ruled out.
    # With a third, worse width of a (loses 150, costs 0), that width is ruled out, and its pairs with it.
    programme = Programme({"a": np.arange(3), "b": np.arange(2)})
    time = Terms()
    time.add(programme.pair("a", "b"), np.array([[0.0, 10.0], [0.0, 10.0], [10.0, 20.0]]))
    cost = time.amount(programme.count)
    objective = np.zeros(programme.count)
    objective[:5] = [150, 100, 0, 100, 0]
    problem = replace(Problem.of(programme, -objective, cost), elimination=None)
    found = least(problem, objective, [Limit(cost.each, 10.0)])
    assert found is not None
    assert objective @ found.variables == pytest.approx(100.0)
    assert programme.count == 11
    assert sizes == [8]
