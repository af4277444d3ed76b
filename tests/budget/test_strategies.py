"""What others do, on the terms of ours: the same table, the same budget."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.budget import strategies
from edgeprune.budget.choice import Choice, Range
from edgeprune.budget.solve import Solution
from edgeprune.budget.strategies import STRATEGIES, Flops, Latency, search
from edgeprune.budget.values import values_from_scores
from edgeprune.errors import BudgetError, InputError
from edgeprune.graph.trace import trace
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill
from edgeprune.latency.store import TableStore
from tests.simulated import SimulatedBench, Wide


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> NetworkTable:
    model = Wide().eval()
    blueprint = Blueprint(model, trace(model, torch.zeros(1, 3, 16, 16)))
    return fill(blueprint, SimulatedBench(), TableStore(tmp_path_factory.mktemp("tables")))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def choice() -> Choice:
    graph = trace(Wide().eval(), torch.zeros(1, 3, 16, 16))
    random = np.random.default_rng(0)
    scores = {group.name: random.random(group.channels) for group in graph}
    return Choice(graph, scores, values_from_scores(graph, scores))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_lands_on_the_budget_and_none_is_worth_more_than_ours(
    table: NetworkTable, choice: Choice, strategy: str
) -> None:
    budget_us = 0.5 * table.dense.engine_ms * 1000
    found = search(replace(choice, strategy=strategy), table).best(budget_us)
    assert 0.85 * budget_us <= found.cost_us <= budget_us, "three groups on steps of eight channels leave gaps"
    assert found.cost_us == pytest.approx(table.predict(choice.plan(found.widths).widths).ms * 1000)
    assert found.binding == ("--latency",)
    assert found.value == pytest.approx(choice.value(found.widths))
    ours = search(choice, table).best(budget_us)
    assert found.value <= ours.value + 0.02, "but for widths that are no candidates of the programme"


@pytest.mark.parametrize(("off", "least", "times"), [(1.0, 100.0, 1), (0.9, 99.5, 3), (1.1, 98.8, 3)])
def test_a_programme_that_is_off_the_table_is_solved_for_what_fills_the_budget_by_the_table(
    monkeypatch: pytest.MonkeyPatch, off: float, least: float, times: int
) -> None:
    """The programme fills whatever it is given, and by the table its plans take `off` times as long."""
    given = []

    def solved(problem: Any, budget_us: float) -> Solution:
        given.append(budget_us)
        return Solution({"group": round(1e6 * budget_us)}, budget_us, budget_us, 0.0, 0.0)

    monkeypatch.setattr(strategies, "solve", solved)
    choice: Any = SimpleNamespace(limits={}, problem=lambda *rest, **more: SimpleNamespace(by_sums=False))
    table: Any = SimpleNamespace(predict_ms=lambda plans: [off * plan["group"] / 1e9 for plan in plans])
    found = Latency(choice, table).best(100.0)
    assert least <= found.cost_us <= 100.0
    assert found.cost_us == pytest.approx(off * found.value)
    assert len(given) == times


def test_what_elimination_does_not_prove_is_given_to_branch_and_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = {True: 0.01, False: 0.0005}
    solved = []

    def solve(problem: Any, budget_us: float) -> Solution:
        solved.append(problem.by_sums)
        return Solution({"group": 1}, 1.0, budget_us, gaps[problem.by_sums], 0.0)

    monkeypatch.setattr(strategies, "solve", solve)
    choice: Any = SimpleNamespace(limits={}, problem=lambda *_, by_sums=True, **__: SimpleNamespace(by_sums=by_sums))
    table: Any = SimpleNamespace(predict_ms=lambda plans: [0.1])
    search = Latency(choice, table)
    assert search.best(100.0).gap == 0.0005
    assert search.best(100.0).gap == 0.0005
    assert solved == [True, False, False]


def test_uniform_keeps_the_same_share_of_every_group(table: NetworkTable, choice: Choice) -> None:
    found = search(replace(choice, strategy="uniform"), table).best(500 * table.dense.engine_ms)
    shares = [found.widths[group.name] / group.channels for group in choice.graph]
    assert max(shares) - min(shares) <= 1 / 24, "a channel of 24, since widths are whole"


def test_global_keeps_the_best_channels_wherever_they_are(table: NetworkTable, choice: Choice) -> None:
    found = search(replace(choice, strategy="global"), table).best(500 * table.dense.engine_ms)
    plan = choice.plan(found.widths)
    kept = np.concatenate([choice.scores[name][indices] for name, indices in plan.kept.items()])
    gone = np.concatenate([np.delete(choice.scores[name], indices) for name, indices in plan.kept.items()])
    assert min(kept) >= max(gone)


def test_flops_has_the_most_value_of_its_multiply_accumulates(table: NetworkTable, choice: Choice) -> None:
    found = search(replace(choice, strategy="flops"), table).best(500 * table.dense.engine_ms)
    macs, widths = choice.graph.macs(found.widths), choice.candidates(table)
    most = max(
        choice.value(plan)
        for plan in (dict(zip(widths, ones, strict=True)) for ones in itertools.product(*map(list, widths.values())))
        if choice.graph.macs(plan) <= macs
    )
    assert found.value == pytest.approx(most, rel=1e-3), "of all combinations; the gap is a thousandth of what is lost"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_limits_alignment_and_ranges_hold_for_each(table: NetworkTable, choice: Choice, strategy: str) -> None:
    dense_us = table.dense.engine_ms * 1000
    most = choice.graph.params() // 2
    limited = replace(choice, strategy=strategy, align=8, limits={"--max-params": most})
    found = search(limited, table).best(dense_us)
    assert choice.graph.params(found.widths) <= most
    assert found.binding == ("--max-params",)
    assert all(width % 8 == 0 for width in found.widths.values())
    least = {**found.widths, "stem.0": 32}
    wider = search(replace(choice, strategy=strategy), table, Range(least=least)).best(dense_us)
    assert all(width >= least[name] for name, width in wider.widths.items())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_no_plan_reaches_is_said(table: NetworkTable, choice: Choice, strategy: str) -> None:
    with pytest.raises(BudgetError, match="under the floor: the fastest plan takes"):
        search(replace(choice, strategy=strategy), table).best(1.0)
    limited = replace(choice, strategy=strategy, limits={"--max-params": 10})
    with pytest.raises(BudgetError, match="--max-params is under what the smallest network needs: it allows 10 "):
        search(limited, table).best(table.dense.engine_ms * 1000)


def test_an_unknown_strategy_gets_the_nearest(table: NetworkTable, choice: Choice) -> None:
    with pytest.raises(InputError, match="did you mean 'uniform'"):
        search(replace(choice, strategy="unform"), table)


def test_flops_looks_for_a_plan_within_the_budget_where_the_smallest_is_not(
    table: NetworkTable, choice: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer of one channel to one takes long: the plan of the fewest MACs is over a budget that wider ones meet."""

    def us(flops: Flops, step: int) -> float:
        assert flops.at(step)
        return 1000.0 if step < 100 else 50.0 + step

    monkeypatch.setattr(Flops, "_us", us)
    found = search(replace(choice, strategy="flops"), table)
    assert found.best(450.0).cost_us == 450.0
    assert found.fastest().cost_us == 150.0
    with pytest.raises(BudgetError, match=r"the fastest plan takes 0\.15 ms"):
        found.best(120.0)


class Ragged:
    """A table on which 24 channels a group take 100 us, 12 to 23 ragged ones 120 us, and fewer 50 us."""

    def predict_ms(self, widths: Sequence[Mapping[str, int]]) -> np.ndarray:
        least = [min(one.values()) for one in widths]
        return np.array([0.1 if one >= 24 else 0.12 if one > 12 else 0.05 for one in least])


def test_a_larger_share_that_takes_less_is_found(choice: Choice) -> None:
    """Bisection from a share of a half, which is too slow, would never look at the whole network."""
    narrowest = min(group.channels for group in choice.graph.cuttable)
    assert narrowest == 24
    found = search(replace(choice, strategy="uniform"), Ragged()).best(110.0)  # type: ignore[arg-type]
    assert found.widths == {group.name: group.channels for group in choice.graph.cuttable}
    assert found.cost_us == pytest.approx(100.0)
