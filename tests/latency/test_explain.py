from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.errors import InputError
from edgeprune.graph.trace import trace
from edgeprune.latency.explain import Stair, explained, steps
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill
from edgeprune.latency.store import TableStore
from tests.simulated import SimulatedBench, Wide


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> NetworkTable:
    model = Wide().eval()
    blueprint = Blueprint(model, trace(model, torch.zeros(1, 3, 8, 8)))
    return fill(blueprint, SimulatedBench(), TableStore(tmp_path_factory.mktemp("tables")))  # type: ignore[arg-type]


def test_a_width_that_a_wider_one_undercuts_is_no_step() -> None:
    """Three and four channels cost 5 us at most, five cost 4; one is 1 % faster than two, which is no step."""
    found = steps(np.array([1.98, 2.0, 5.0, 4.5, 4.0]), ["measured", "interpolated", "assumed", "assumed", "measured"])
    assert found == [Stair(5, 4.0, "measured", 3, 5.0), Stair(2, 2.0, "interpolated", 1, 2.0)]


def test_the_staircase_of_a_layer(table: NetworkTable) -> None:
    """One convolution 32 -> c, 3x3 at 8 x 8: outputs are paid for in eights, 1 + 0.64 * 9 * 32 * 8 / 10 us each."""
    found = explained(table, "one.0", drift=2.0)
    assert (found["group"], found["side"], found["of"]) == ("one.0", "output", 24)
    assert found["widths"] == list(range(1, 25))
    assert found["steps"][0]["width"] == 24
    eights = {one["width"]: one for one in found["steps"]}
    assert {8, 16, 24} <= set(eights)
    # 64 positions x 9 x 32 x 24 multiply-accumulates take 442 us and 1 us more; twice that now.
    assert eights[24]["us"] == pytest.approx(2 * 443, rel=0.05)
    assert set(found["timed"]) == {one.widths["one.0"] for one in table.records if one.widths["one.0"]}


def test_a_layer_that_only_reads_a_group_is_shown_over_its_inputs(table: NetworkTable) -> None:
    found = explained(table, "fc")
    assert (found["group"], found["side"], found["of"]) == ("stem.0", "input", 32)


def test_an_unknown_layer_is_told_with_the_nearest(table: NetworkTable) -> None:
    with pytest.raises(InputError, match=r"no layer of the engine is named 'one.O' \(did you mean 'one.[03]'\?\)"):
        explained(table, "one.O")
