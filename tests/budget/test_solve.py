"""The programme against all combinations, tried one by one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeprune.budget.optimum import least
from edgeprune.budget.problem import Problem, formulate, formulate_macs
from edgeprune.budget.solve import LATENCY, floor, solve
from edgeprune.errors import BudgetError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import Axis, EngineNode
from edgeprune.graph.trace import trace
from edgeprune.latency.predict import CostRow
from tests.nets import (
    Attention,
    Chunked,
    Concat,
    Depthwise,
    Grouped,
    PaddedShortcut,
    Residual,
    Shuffle,
    SqueezeExcite,
)

CHOICES = np.array([1, 3, 4])


class Chain(nn.Module):
    """Group `a` flows into `b`; both flow, concatenated, into `c`, which flows into the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(4, 4, 1)
        self.c = nn.Conv2d(8, 4, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        return self.last(self.c(torch.cat([a, self.b(a).relu()], 1)).relu())


class Costs:
    """A table whose row costs are any function of (cin, cout), in steps of `step` input channels, or affine in them."""

    step = 0

    def __init__(self, rows: list[CostRow], costs: Mapping[str, np.ndarray]) -> None:
        self.rows = rows
        self.fixed_us = 2.0
        self.dense = SimpleNamespace(widths={group.name: group.channels for group in GRAPH})
        self._costs = costs

    def row_us(self, row: CostRow, cin: np.ndarray, cout: np.ndarray, widths: Any = None) -> np.ndarray:
        base, slope, both = self._costs[row.name]
        steps = np.ceil(cin / self.step) if self.step else cin
        return np.asarray(base + slope * cout + both * steps * np.ceil(cout / 2))

    def total_us(self, widths: Mapping[str, int]) -> float:
        return self.fixed_us + sum(
            float(self.row_us(row, *(np.array(axis.width(widths)) for axis in row.axes))) for row in self.rows
        )


def rows_of(graph: ChannelGraph) -> list[CostRow]:
    names = ("a", "b", "c", "last")
    axes = {name: (graph.axis(f"{name}.weight", 1), graph.axis(f"{name}.weight", 0)) for name in names}
    return [CostRow((name,), "Conv", EngineNode(name, "Conv", "", (1, 1), *axes[name])) for name in names]


GRAPH = trace(Chain(), torch.zeros(1, 3, 2, 2))
NAMES = ("a", "b", "c")


PLANS = [dict(zip(NAMES, widths, strict=True)) for widths in itertools.product(CHOICES.tolist(), repeat=3)]
DENSE = dict.fromkeys(NAMES, 4)


def programme(costs: Costs, values: Mapping[str, np.ndarray], limits: Mapping[str, int] | None = None) -> Problem:
    return formulate(GRAPH, costs, dict.fromkeys(NAMES, CHOICES), values, limits)  # type: ignore[arg-type]


number = st.integers(0, 20).map(float)
tables = st.tuples(*[st.tuples(number, number, number)] * 4).map(
    lambda costs: Costs(rows_of(GRAPH), dict(zip(("a", "b", "c", "last"), map(np.array, costs), strict=True)))
)
worths = st.tuples(*[st.lists(st.integers(0, 50), min_size=4, max_size=4)] * 3).map(
    lambda steps: {name: np.concatenate([[0], np.cumsum(one)]) / 100 for name, one in zip(NAMES, steps, strict=True)}
)


def worth(values: Mapping[str, np.ndarray], plan: Mapping[str, int]) -> float:
    return float(sum(values[name][width] for name, width in plan.items()))


@settings(max_examples=40, deadline=None)
@given(tables, worths, st.floats(0.1, 1.0), st.sampled_from([0, 3]))
def test_equals_the_best_of_all_combinations(
    table: Costs, values: dict[str, np.ndarray], share: float, step: int
) -> None:
    table.step = step
    budget = share * table.total_us(DENSE)
    # A plan that takes the budget to the last digit is within it or not by the solver's tolerance.
    assume(all(abs(table.total_us(plan) - budget) > 1e-5 for plan in PLANS))
    within = [plan for plan in PLANS if table.total_us(plan) <= budget]

    problem = programme(table, values)
    fastest = floor(problem)
    assert fastest.cost_us == pytest.approx(min(map(table.total_us, PLANS)), abs=1e-3)
    if not within:
        with pytest.raises(BudgetError, match="under the floor"):
            solve(problem, budget)
        return
    best = max(worth(values, plan) for plan in within)
    found = solve(problem, budget)
    assert table.total_us(found.widths) <= budget + 1e-3
    assert found.value == pytest.approx(best, rel=1e-3, abs=1e-6)
    assert found.gap is not None
    assert found.gap <= 1e-3


@settings(max_examples=40, deadline=None)
@given(tables, worths, st.floats(0.1, 1.2), st.integers(20, 120), st.integers(20, 120))
def test_equals_the_best_of_all_combinations_within_limits(
    table: Costs, values: dict[str, np.ndarray], share: float, most: int, other: int
) -> None:
    budget = share * table.total_us(DENSE)
    assume(all(abs(table.total_us(plan) - budget) > 1e-5 for plan in PLANS))
    limits = {"--max-params": most, "--max-size": other}

    def best(*names: str) -> float:
        within = [plan for plan in PLANS if LATENCY not in names or table.total_us(plan) <= budget]
        allowed = min([limits[name] for name in names if name in limits], default=10**9)
        return max((worth(values, plan) for plan in within if GRAPH.params(plan) <= allowed), default=-1.0)

    everything = (LATENCY, *limits)
    small = [plan for plan in PLANS if GRAPH.params(plan) <= min(most, other)]
    problem = programme(table, values, limits)
    if not small:
        with pytest.raises(BudgetError, match="under what the smallest network needs"):
            floor(problem)
    else:
        assert floor(problem).cost_us == pytest.approx(min(map(table.total_us, small)), abs=1e-3)
    if best(*everything) < 0:
        with pytest.raises(BudgetError, match="under"):
            solve(problem, budget)
        return
    found = solve(problem, budget)
    assert table.total_us(found.widths) <= budget + 1e-3
    assert GRAPH.params(found.widths) <= min(most, other)
    assert found.value == pytest.approx(best(*everything), rel=1e-3, abs=1e-6)
    # What binds is what a better plan is to be had without; up to the gap that the solver leaves.
    dense = worth(values, DENSE)
    tightest = "--max-params" if most <= other else "--max-size"
    assert set(found.binding) <= {LATENCY, tightest}
    for name, free in ((LATENCY, best(*limits)), (tightest, best(LATENCY))):
        if free - found.value > 0.01 * dense:
            assert name in found.binding
        if free - found.value < 1e-9:
            assert name not in found.binding


@pytest.mark.parametrize(
    "network", [Residual, Depthwise, Grouped, Concat, SqueezeExcite, PaddedShortcut, Chunked, Shuffle, Attention]
)
def test_macs_and_parameters_are_those_of_the_network(network: type[nn.Module]) -> None:
    model = network()
    graph = trace(model, torch.zeros(1, 5, 6) if isinstance(model, Attention) else torch.zeros(1, 3, 8, 8))
    random = np.random.default_rng(0)
    widths = {group.name: np.unique(group.possible[:: max(1, len(group.possible) // 3)]) for group in graph}
    widths = {name: np.union1d(choices, [graph.group(name).channels]) for name, choices in widths.items()}
    values = {group.name: np.append(0, np.cumsum(random.random(group.channels))) for group in graph}
    for share in (0.4, 0.7):
        problem = formulate_macs(graph, widths, values, {"--max-params": round(0.8 * graph.params())})
        found = solve(problem, share * graph.macs())
        assert found.cost_us == pytest.approx(graph.macs(found.widths))
        assert graph.macs(found.widths) <= share * graph.macs()
        assert graph.params(found.widths) <= 0.8 * graph.params()
        assert worth(values, found.widths) == pytest.approx(found.value)


def test_a_plan_is_not_lost_where_what_binds_is_not_known_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Costs(rows_of(GRAPH), dict.fromkeys(("a", "b", "c", "last"), np.array([1.0, 2.0, 0.5])))
    values = {name: np.arange(5.0) for name in NAMES}
    problem = programme(table, values, {"--max-params": GRAPH.params(DENSE)})
    known = solve(problem, 40.0)
    assert known.binding == (LATENCY,)
    asked: list[object] = []

    def least_once(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) > 1:
            raise BudgetError("no time")
        return least(*arguments)

    monkeypatch.setattr("edgeprune.budget.solve.least", least_once)
    found = solve(problem, 40.0)
    assert (found.widths, found.binding, len(asked)) == (known.widths, (), 3)


def test_the_cost_of_a_plan_is_that_of_its_layers() -> None:
    table = Costs(rows_of(GRAPH), dict.fromkeys(("a", "b", "c", "last"), np.array([1.0, 2.0, 0.5])))
    values = {name: np.arange(5.0) for name in NAMES}
    # Everything is kept: a 3->4: 1+8+3, b 4->4: 1+8+4, c 8->4: 1+8+8, last 4->2: 1+4+2, fixed 2.
    found = solve(programme(table, values), 51.0 + 1e-6)
    assert found.widths == {"a": 4, "b": 4, "c": 4}
    assert found.cost_us == pytest.approx(12 + 13 + 17 + 7 + 2)


def test_without_groups_there_is_one_plan() -> None:
    table = Costs(rows_of(GRAPH), dict.fromkeys(("a", "b", "c", "last"), np.array([1.0, 2.0, 0.5])))
    problem = formulate(GRAPH, table, {}, {})  # type: ignore[arg-type]
    assert solve(problem, 51.0).widths == {}
    with pytest.raises(BudgetError):
        solve(problem, 50.9)


def test_axes_of_the_concatenation_hold_both_groups() -> None:
    assert GRAPH.axis("c.weight", 1) == Axis(0, {"a": 1, "b": 1})
