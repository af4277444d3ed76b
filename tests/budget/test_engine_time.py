"""The programme's time against the table's own prediction, where blocks of several layers can be emptied."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.budget.problem import formulate
from edgeprune.budget.solve import floor, solve
from edgeprune.errors import BudgetError
from edgeprune.graph.trace import trace
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill
from edgeprune.latency.store import TableStore
from tests.simulated import SimulatedBench


class Bottleneck(nn.Module):
    """Stem 3 -> 16 and a block 16 -> 8 -> 8 -> 16 beside a shortcut: `one` and `two` can be emptied."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.one = nn.Conv2d(16, 8, 1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.three = nn.Conv2d(8, 16, 1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.three(self.two(self.one(x).relu()).relu())).relu()
        return self.fc(x.mean((2, 3)))


class Dense(nn.Module):
    """Stem 3 -> 8 and two layers that add 6 channels each; a norm over all 20, and a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 6, 3, padding=1)
        self.two = nn.Conv2d(14, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(20)
        self.head = nn.Conv2d(20, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = torch.cat([x, self.one(x).relu()], 1)
        x = torch.cat([x, self.two(x).relu()], 1)
        return self.fc(self.head(self.norm(x).relu()).relu().mean((2, 3)))


WIDTHS = {"stem": np.array([4, 8, 16]), "one": np.array([0, 4, 8]), "two": np.array([0, 3, 8])}
PLANS = [
    dict(zip(WIDTHS, widths, strict=True)) for widths in itertools.product(*(one.tolist() for one in WIDTHS.values()))
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> NetworkTable:
    model = Bottleneck().eval()
    blueprint = Blueprint(model, trace(model, torch.zeros(1, 3, 8, 8)))
    folder: Path = tmp_path_factory.mktemp("tables")
    return fill(blueprint, SimulatedBench(), TableStore(folder))  # type: ignore[arg-type]


GRAPH = trace(Bottleneck().eval(), torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: "-".join(map(str, plan.values())))
def test_is_what_the_table_predicts(table: NetworkTable, plan: dict[str, int]) -> None:
    only = {name: np.array([width]) for name, width in plan.items()}
    problem = formulate(GRAPH, table, only, {name: np.zeros(17) for name in only})
    assert floor(problem).cost_us == pytest.approx(table.predict(plan).ms * 1000)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_plan_is_the_best_of_all(table: NetworkTable, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = {name: np.append(0, np.cumsum(random.integers(1, 9, 16))).astype(float) for name in WIDTHS}
    times = [table.predict(plan).ms * 1000 for plan in PLANS]
    worths = [sum(values[name][width] for name, width in plan.items()) for plan in PLANS]
    problem = formulate(GRAPH, table, WIDTHS, values)
    for budget in np.quantile(times, [0.2, 0.5, 0.8]) + 1e-3:
        found = solve(problem, budget)
        assert found.value == max(worth for worth, us in zip(worths, times, strict=True) if us <= budget)
        assert found.cost_us == pytest.approx(table.predict(found.widths).ms * 1000)
    with pytest.raises(BudgetError, match="under the floor"):
        solve(problem, min(times) - 0.1)


def test_what_flows_together_is_told_by_its_sum(tmp_path: Path) -> None:
    """The device takes input channels in steps of 4, so no layer behind a concatenation is affine in them."""
    model = Dense().eval()
    graph = trace(model, torch.zeros(1, 3, 8, 8))
    table = fill(Blueprint(model, graph), SimulatedBench(), TableStore(tmp_path))  # type: ignore[arg-type]
    widths = {
        name: np.array(some)
        for name, some in zip(("stem", "one", "two", "head"), ([3, 8], [1, 2, 6], [2, 5, 6], [4, 8]), strict=True)
    }
    assert {group.name for group in graph.cuttable} == set(widths)
    plans = [
        dict(zip(widths, one, strict=True)) for one in itertools.product(*(some.tolist() for some in widths.values()))
    ]
    times = [table.predict(plan).ms * 1000 for plan in plans]
    random = np.random.default_rng(0)
    values = {name: np.append(0, np.cumsum(random.integers(1, 9, 8))).astype(float) for name in widths}
    problem = formulate(graph, table, widths, values)
    assert problem.by_sums
    assert floor(problem).cost_us == pytest.approx(min(times))
    for budget in np.quantile(times, [0.2, 0.4, 0.6, 0.8]) + 1e-3:
        found = solve(problem, budget)
        within = [plan for plan, us in zip(plans, times, strict=True) if us <= budget]
        assert found.value == max(sum(values[name][width] for name, width in plan.items()) for plan in within)
        # But for the concatenations: of the two parts of one, only the sum is told.
        assert found.cost_us == pytest.approx(table.predict(found.widths).ms * 1000, rel=1e-4)


def test_what_is_emptied_takes_its_block_away(table: NetworkTable) -> None:
    # By the device's formula, in us: the block's 1x1 layers cost 1 + 64 positions x 16 x 8 / 1000 = 9.192 each, and its
    # 3x3 layer 1 + 64 x 9 x 8 x 8 / 1000 = 37.864; without `two`, `one` is gone as well.
    whole = {name: int(choices[-1]) for name, choices in WIDTHS.items()}
    without = table.predict(whole).ms - table.predict({**whole, "two": 0}).ms
    assert without * 1000 == pytest.approx(9.192 + 37.864 + 9.192, rel=0.03)
