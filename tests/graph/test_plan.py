from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import InputError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from tests import nets

PIXELS = torch.randn(1, 3, 4, 4)
RESIDUAL = trace(nets.Residual(), PIXELS)
CHUNKED = trace(nets.Chunked(), PIXELS)


@st.composite
def plans(draw: st.DrawFn, graph=RESIDUAL) -> WidthPlan:
    kept = {}
    for group in graph:
        run = group.channels // group.parts
        width = draw(st.integers(1, run))
        indices = st.lists(st.integers(0, run - 1), min_size=width, max_size=width, unique=True)
        kept[group.name] = [part * run + one for part in range(group.parts) for one in draw(indices)]
    return WidthPlan(graph, kept)


@given(plans())
def test_round_trip_through_json(plan):
    text = json.dumps(plan.to_json())
    again = WidthPlan.from_json(RESIDUAL, json.loads(text))
    assert again == plan
    assert again.to_json() == plan.to_json()


@given(plans(CHUNKED))
def test_round_trip_with_parts(plan):
    again = WidthPlan.from_json(CHUNKED, json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert {k: {d: e.tolist() for d, e in v.items()} for k, v in again.cuts.tensors.items()} == {
        k: {d: e.tolist() for d, e in v.items()} for k, v in plan.cuts.tensors.items()
    }


@given(plans())
def test_sizes_follow_from_the_cuts(plan):
    sizes = {name: list(shape) for name, shape in RESIDUAL.shapes.items()}
    for tensor, dims in plan.cuts.tensors.items():
        for dim, stay in dims.items():
            sizes[tensor][dim] = len(stay)
    assert plan.params == sum(int(np.prod(shape)) for name, shape in sizes.items() if name not in RESIDUAL.buffers)


def test_uniform_keeps_the_highest_scores():
    scores = {"one.0": np.array([3.0, 1.0, 2.0, 0.0])}
    plan = WidthPlan.uniform(RESIDUAL, 0.5, scores)
    assert plan.kept["one.0"].tolist() == [0, 2]
    assert plan.widths == {"stem.0": 4, "one.0": 2, "two.0": 2}
    assert plan.cuts.tensors["one.3.weight"] == {0: pytest.approx([0, 1, 2, 3]), 1: pytest.approx([0, 2])}


def test_each_part_keeps_its_own_best():
    scores = {"stem": np.array([9.0, 8.0, 7.0, 6.0, 0.0, 1.0, 2.0, 3.0])}
    plan = WidthPlan.from_scores(CHUNKED, scores, {"stem": 4})
    assert plan.kept["stem"].tolist() == [0, 1, 6, 7]
    assert plan.cuts.tensors["branch.weight"][1].tolist() == [2, 3]
    assert plan.cuts.tensors["last.weight"][1].tolist() == [0, 1, 4, 5, 6, 7]


def test_dense_plan_cuts_nothing():
    plan = WidthPlan.dense(RESIDUAL)
    assert not plan.cuts
    assert plan.widths == {"stem.0": 8, "one.0": 4, "two.0": 4}
    assert plan.macs == RESIDUAL.macs()
    assert plan == WidthPlan(RESIDUAL, {"one.0": np.arange(4)})


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"stem.0": []}, "can't keep no channel"),
        ({"one.0": [4]}, "can't keep channels"),
        ({"one.0": [-1]}, "can't keep channels"),
        ({"one.0": [1, 1]}, "can't keep channels"),
        ({"one.1": [1]}, "no channel group is named 'one.1'.*did you mean"),
    ],
)
def test_impossible_plans_are_refused(kept, message):
    with pytest.raises(InputError, match=message):
        WidthPlan(RESIDUAL, kept)


def test_parts_must_stay_equal():
    with pytest.raises(InputError, match="equally many"):
        WidthPlan(CHUNKED, {"stem": [0, 1, 2]})
    with pytest.raises(InputError, match="multiple of 2"):
        WidthPlan.from_scores(CHUNKED, {}, {"stem": 3})


@pytest.mark.parametrize("keep", [0, -1, 1.5])
def test_keep_outside_its_range_is_refused(keep):
    with pytest.raises(InputError, match="not in"):
        WidthPlan.uniform(RESIDUAL, keep)


def test_scores_of_another_length_are_refused():
    with pytest.raises(InputError, match=r"shape \(3,\), not \(4,\)"):
        WidthPlan.from_scores(RESIDUAL, {"one.0": np.zeros(3)}, {"one.0": 2})


def test_a_plan_of_another_network_is_refused():
    content = WidthPlan.uniform(RESIDUAL, 0.5).to_json()
    content["groups"]["one.0"]["of"] = 5
    with pytest.raises(InputError, match="5 channels, the network's 4"):
        WidthPlan.from_json(RESIDUAL, content)
