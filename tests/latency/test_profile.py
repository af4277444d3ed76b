from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.errors import TableError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency import profile
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill, group_cost, useful_widths
from edgeprune.latency.store import TableStore
from tests.simulated import SimulatedBench, Wide


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    model = Wide().eval()
    return Blueprint(model, trace(model, torch.zeros(1, 3, 8, 8)))


@pytest.fixture(scope="module")
def table(blueprint: Blueprint, tmp_path_factory: pytest.TempPathFactory) -> NetworkTable:
    return fill(blueprint, SimulatedBench(), TableStore(tmp_path_factory.mktemp("tables")))  # type: ignore[arg-type]


def test_rows_carry_the_names_of_modules(table: NetworkTable) -> None:
    names = [row.name for row in table.rows if row.op in ("Conv", "Gemm")]
    assert names == ["stem.0", "one.0", "one.3", "two.0", "two.3", "fc"]


def test_predicts_networks_that_it_has_not_seen(blueprint: Blueprint, table: NetworkTable) -> None:
    random = np.random.default_rng(5)
    errors = []
    for _ in range(20):
        widths = {group.name: int(random.integers(1, group.channels + 1)) for group in blueprint.graph}
        plan = WidthPlan.from_scores(blueprint.graph, {}, widths)
        real = SimulatedBench().measure({"x": blueprint.at(plan)})["x"].median_ms
        errors.append(abs(table.predict(widths).ms / real - 1))
    assert np.median(errors) < 0.03
    assert table.error < 0.1


def test_the_rows_add_up_to_the_engine(table: NetworkTable) -> None:
    for record in table.records:
        assert record.layers_us + record.inserted_us == pytest.approx(record.engine_ms * 1000)
    assert table.scale == pytest.approx(1, abs=0.05)


def test_widths_worth_having_lie_on_the_steps(blueprint: Blueprint, table: NetworkTable) -> None:
    # A block's first convolution pays for outputs in eights, the second for inputs in fours.
    found = useful_widths(table, blueprint.graph, "one.0")
    assert found[-1] == 24
    assert {8, 16, 24} <= set(found.tolist())
    assert found[0] == 0  # without the block
    cost = group_cost(table, blueprint.graph, "one.0", np.arange(25))
    assert (np.diff(cost[found]) > 0).all()


def test_a_second_run_measures_nothing(blueprint: Blueprint, tmp_path: Path) -> None:
    first, second = SimulatedBench(), SimulatedBench()
    fill(blueprint, first, TableStore(tmp_path))  # type: ignore[arg-type]
    fill(blueprint, second, TableStore(tmp_path))  # type: ignore[arg-type]
    assert first.built == 1 + profile.FREE_NETWORKS + profile.STEPPED_NETWORKS
    assert second.built == 0


def test_a_busy_device_is_given_up_on_and_leaves_the_table_alone(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "PAUSE_S", 0.0)
    store = TableStore(tmp_path)
    with pytest.raises(TableError, match="can't be trusted: a test made it busy"):
        fill(blueprint, SimulatedBench(trusted=False), store)  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("networks.jsonl"))
