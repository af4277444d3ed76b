from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.budget.problem import formulate
from edgeprune.budget.solve import solve
from edgeprune.errors import TableError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency import sampling, waiting
from edgeprune.latency.bench import LayerTimes
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.network import NetworkRecord
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill, record_of, reference_of
from edgeprune.latency.sampling import FAMILIAR, TOTAL_NETWORKS, group_cost, useful_widths
from edgeprune.latency.store import TableStore
from edgeprune.latency.table import LatencyTable
from edgeprune.runtimes.base import LayerTime
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


def test_the_band_holds_networks_on_both_sides(table: NetworkTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network takes twice what is predicted of it, so the band goes up to twice the prediction."""
    monkeypatch.setattr(NetworkTable, "predict_ms", lambda self, widths: np.ones(len(widths)))
    records = tuple(replace(record, engine_ms=2.0) for record in table.records)
    off = NetworkTable(LatencyTable(table.table.fingerprint, records), table.network, table.nodes)
    assert off.error == pytest.approx(1.0)
    found = off.predict(off.dense.widths)
    assert (found.low_ms, found.high_ms) == pytest.approx((found.ms / 2, found.ms * 2))


def test_the_rows_add_up_to_the_engine(table: NetworkTable) -> None:
    for record in table.records:
        assert record.layers_us + record.inserted_us == pytest.approx(record.engine_ms * 1000)
    assert table.scale == pytest.approx(1, abs=0.05)


def test_what_was_inserted_behind_a_layer_is_part_of_its_time(blueprint: Blueprint, table: NetworkTable) -> None:
    # 10 us of rows in an engine of 5 us: everything is halved. The second change of layout is behind no known node.
    rows = (
        LayerTime(("stem.0", "stem.2"), "Conv", 6.0),
        LayerTime((), "ReorderOutput", 2.0, ("stem.0", "stem.2")),
        LayerTime((), "ReorderInput", 1.0),
        LayerTime(("fc",), "Gemm", 1.0),
    )
    engine = SimulatedBench().measure({"x": blueprint.at(WidthPlan.dense(blueprint.graph))})["x"]
    times = LayerTimes(rows, replace(engine, median_ms=0.005))
    record = record_of(times, WidthPlan.dense(blueprint.graph), blueprint.nodes, table.network)
    assert {row.nodes: row.us for row in record.rows} == {("stem.0", "stem.2"): 4.0, ("fc",): 0.5}
    assert record.inserted_us == 0.5


def test_widths_worth_having_lie_on_the_steps(blueprint: Blueprint, table: NetworkTable) -> None:
    # A block's first convolution pays for outputs in eights, the second for inputs in fours.
    found = useful_widths(table, "one.0", np.arange(25))
    assert found[-1] == 24
    assert {8, 16, 24} <= set(found.tolist())
    assert found[0] == 0  # without the block
    cost = group_cost(table, "one.0", np.arange(25))
    assert (np.diff(cost[found]) > 0).all()


def test_of_a_wide_group_not_every_width_is_looked_at(
    blueprint: Blueprint, table: NetworkTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MOST_WIDTHS", 8)
    for name, value in (("LOOKED_AT", 20), ("FINE", 6)):
        monkeypatch.setattr(sampling, name, value)
    asked: list[int] = []

    def cost(known: Any, name: str, widths: np.ndarray) -> np.ndarray:
        asked.extend(widths.tolist())
        return widths + 1.0

    monkeypatch.setattr(sampling, "group_cost", cost)
    useful_widths(table, "one.0", np.arange(25))
    assert asked == [0, 1, 2, 3, 4, 5, 8, 12, 16, 20, 24]


def test_a_second_run_measures_nothing(blueprint: Blueprint, tmp_path: Path) -> None:
    first, second = SimulatedBench(), SimulatedBench()
    fill(blueprint, first, TableStore(tmp_path))  # type: ignore[arg-type]
    fill(blueprint, second, TableStore(tmp_path))  # type: ignore[arg-type]
    assert first.built == TOTAL_NETWORKS
    assert second.built == 0


def test_a_second_network_of_the_same_layers_takes_less_than_half(tmp_path: Path) -> None:
    """A block more, of the layers of the others; then another input size, where nothing is known."""
    built, tables = [], []
    for blocks, size in ((2, 8), (3, 8), (2, 10)):
        model = Wide().eval()
        if blocks == 3:
            model.two = nn.Sequential(*model.two, *copy.deepcopy(model.one))
        bench = SimulatedBench()
        source = Blueprint(model, trace(model, torch.zeros(1, 3, size, size)))
        tables.append(fill(source, bench, TableStore(tmp_path)))  # type: ignore[arg-type]
        built.append(bench.built)
    assert built == [TOTAL_NETWORKS, len(FAMILIAR), TOTAL_NETWORKS]
    assert len(FAMILIAR) < TOTAL_NETWORKS / 2
    assert len(tables[1].held_out) == len(FAMILIAR) - 1
    assert tables[1].error < 0.05


def test_a_network_of_few_plans_has_each_measured_once(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)).eval()
    few = Blueprint(model, trace(model, torch.zeros(1, 3, 8, 8)))
    built = []
    for _ in range(2):
        bench = SimulatedBench()
        table = fill(few, bench, TableStore(tmp_path))  # type: ignore[arg-type]
        built.append(bench.built)
    assert built == [4, 0]
    assert sorted(record.widths["0"] for record in table.records) == [1, 2, 3, 4]


@dataclass
class Disturbed(SimulatedBench):
    """Sees one of its networks at twice its time, while it is timed by itself; the dense one is the first."""

    disturbed: int = 5

    def layers(self, models: Any, *rest: Any, **more: Any) -> dict[str, LayerTimes]:
        found = super().layers(models, *rest, **more)
        times = found["network"]
        if self.built == self.disturbed:
            twice = replace(times.engine, median_ms=2 * times.engine.median_ms)
            found["network"] = replace(times, engine=twice)
        return found


def real_ms(blueprint: Blueprint, record: NetworkRecord) -> float:
    plan = WidthPlan.from_scores(blueprint.graph, {}, record.widths)
    return SimulatedBench().measure({"x": blueprint.at(plan)})["x"].median_ms


@pytest.mark.parametrize("disturbed", [1, 5])
def test_what_is_believed_is_timed_side_by_side(blueprint: Blueprint, tmp_path: Path, disturbed: int) -> None:
    table = fill(blueprint, Disturbed(disturbed=disturbed), TableStore(tmp_path))  # type: ignore[arg-type]
    for record in table.records:
        assert record.settled
        assert record.engine_ms == pytest.approx(real_ms(blueprint, record))
        assert record.layers_us + record.inserted_us == pytest.approx(record.engine_ms * 1000)


def test_models_are_open_at_once_as_far_as_they_fit(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []

    class Watched(Disturbed):
        def measure(self, models: Any, *rest: Any, **more: Any) -> dict[str, Measurement]:
            batches.append(len(models))
            return super().measure(models, *rest, **more)

    dense = len(blueprint.at(WidthPlan.dense(blueprint.graph)))
    monkeypatch.setattr("edgeprune.latency.profile.ABREAST_BYTES", 3 * dense)
    table = fill(blueprint, Watched(), TableStore(tmp_path))  # type: ignore[arg-type]
    assert len(batches) > 1
    assert sum(batches) == TOTAL_NETWORKS  # the dense one in the first of them; the others are timed beside it
    assert [record.engine_ms for record in table.records] == pytest.approx(
        [real_ms(blueprint, record) for record in table.records]
    )


def test_engines_that_take_long_to_build_are_not_built_again(blueprint: Blueprint, tmp_path: Path) -> None:
    table = fill(blueprint, Disturbed(opens_quickly=False), TableStore(tmp_path))  # type: ignore[arg-type]
    off = [record.engine_ms / real_ms(blueprint, record) for record in table.records]
    assert sorted(off)[-2:] == pytest.approx([1, 2])


class Killed(SimulatedBench):
    """Does not live to time networks side by side."""

    def measure(self, models: Any, *rest: Any, **more: Any) -> dict[str, Measurement]:
        raise KeyboardInterrupt


def test_a_table_whose_filling_was_killed_at_the_end_is_settled_the_next_time(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    store, bench = TableStore(tmp_path), SimulatedBench()
    with pytest.raises(KeyboardInterrupt):
        fill(blueprint, Killed(), store)  # type: ignore[arg-type]
    table = fill(blueprint, bench, store)  # type: ignore[arg-type]
    assert bench.built == 0
    assert all(record.settled for record in table.records)


def test_a_busy_device_settles_nothing(blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.0)
    store = TableStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fill(blueprint, Killed(), store)  # type: ignore[arg-type]
    before = next(tmp_path.rglob("networks.jsonl")).read_bytes()
    with pytest.raises(TableError, match="can't be trusted: a test made it busy"):
        fill(blueprint, SimulatedBench(trusted=False), store)  # type: ignore[arg-type]
    assert next(tmp_path.rglob("networks.jsonl")).read_bytes() == before


def test_networks_are_timed_beside_the_dense_one_alone(blueprint: Blueprint, table: NetworkTable) -> None:
    reference = reference_of(table, blueprint)
    assert reference is not None
    assert reference.ms == table.dense.engine_ms
    without = NetworkTable(table.table.without([table.dense]), table.network, table.nodes)
    assert reference_of(without, blueprint) is None


def test_a_busy_device_is_given_up_on_and_leaves_the_table_alone(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.0)
    store = TableStore(tmp_path)
    with pytest.raises(TableError, match="can't be trusted: a test made it busy"):
        fill(blueprint, SimulatedBench(trusted=False), store)  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("networks.jsonl"))


class Gated(nn.Module):
    """Conv 3 -> 32, a gate 32 -> 8 -> 32 of its pooled channels, conv 32 -> 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(32, 8, 1)
        self.widen = nn.Conv2d(8, 32, 1)
        self.last = nn.Conv2d(32, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).relu()
        return self.last(x * self.widen(self.reduce(self.pool(x)).relu()).sigmoid())


def test_what_hangs_on_a_gate_costs_nothing_without_it(tmp_path: Path) -> None:
    """Each node of the gate's, pool and product included, costs 0.2 us or more on this device; it has seven of them."""
    model = Gated().eval()
    gated = Blueprint(model, trace(model, torch.zeros(1, 3, 8, 8)))
    table = fill(gated, SimulatedBench(), TableStore(tmp_path))  # type: ignore[arg-type]
    widths = {**table.dense.widths, "reduce": 0}
    charged = {row.name for row, us, _ in table.layers(widths) if us > 0}
    assert charged == {"conv", "relu", "last"}
    real = SimulatedBench().measure({"x": gated.at(WidthPlan.from_scores(gated.graph, {}, {"reduce": 0}))})["x"]
    assert table.predict(widths).ms == pytest.approx(real.median_ms, rel=0.03)
    choices = {group.name: group.possible for group in gated.graph.cuttable}
    values = {
        name: (np.arange(one.max() + 1) if name != "reduce" else -np.arange(9.0)) for name, one in choices.items()
    }
    solution = solve(formulate(gated.graph, table, choices, values), 1e6)  # all is best whole, but for the gate
    assert solution.widths == {"conv": 32, "reduce": 0}
    assert solution.cost_us == pytest.approx(table.predict(widths).ms * 1000)
