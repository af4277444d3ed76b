from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from edgeprune.errors import InputError, NumericsError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import checked, cut, flat_tensors, masked, relative_error, slim, slim_error
from tests import nets

PIXELS = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NETWORKS = {
    net.__name__: nets.with_statistics(net())
    for net in (
        nets.Residual,
        nets.Depthwise,
        nets.Grouped,
        nets.Concat,
        nets.Flatten,
        nets.SqueezeExcite,
        nets.PaddedShortcut,
        nets.Shared,
        nets.Chunked,
        nets.Shuffle,
    )
}
GRAPHS = {name: trace(model, PIXELS) for name, model in NETWORKS.items()}


def half(graph, seed=0):
    random = np.random.default_rng(seed)
    return WidthPlan.uniform(graph, 0.5, {group.name: random.random(group.channels) for group in graph})


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_compact_equals_masked_on_random_plans(name, data):
    model, graph = NETWORKS[name], GRAPHS[name]
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scores = {group.name: random.random(group.channels) for group in graph}
    widths = {
        group.name: group.parts * data.draw(st.integers(1, group.channels // group.parts), label=group.name)
        for group in graph
    }
    plan = WidthPlan.from_scores(graph, scores, widths)
    small = slim(model, plan, check=False)
    assert slim_error(model, plan, small) < 1e-5
    assert plan.params == sum(tensor.numel() for tensor in small.parameters())


def test_what_is_checked_is_told_and_what_differs_is_refused():
    model, plan = NETWORKS["Residual"], half(GRAPHS["Residual"])
    small = slim(model, plan, check=False)
    assert checked(model, plan, small) == slim_error(model, plan, small) < 1e-5
    with torch.no_grad():
        small.fc.bias += 1.0
    with pytest.raises(NumericsError, match="differs from the masked one by"):
        checked(model, plan, small)


def test_the_original_is_left_alone():
    model = nets.Residual()
    before = copy.deepcopy(model.state_dict())
    objects = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    plan = half(trace(model, PIXELS))
    slim(model, plan)
    masked(model, plan)
    assert [id(tensor) for tensor in (*model.parameters(), *model.buffers())] == objects
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.one[0].out_channels == 4


def test_the_copy_shares_nothing_with_the_original():
    model = nets.Residual()
    small = slim(model, half(trace(model, PIXELS)))
    with torch.no_grad():
        for tensor in small.parameters():
            tensor.fill_(7)
    assert not any((tensor == 7).all() for tensor in model.parameters())


def test_attributes_follow_the_tensors():
    small = cut(NETWORKS["Grouped"], half(GRAPHS["Grouped"]).cuts)
    assert (small.grouped.groups, small.grouped.in_channels, small.grouped.out_channels) == (2, 4, 6)
    assert (small.last.in_channels, small.last.out_channels) == (6, 2)
    small = cut(NETWORKS["Flatten"], half(GRAPHS["Flatten"]).cuts)
    assert (small.hidden.in_features, small.hidden.out_features, small.norm.num_features) == (8, 3, 3)


def test_state_is_kept():
    model = nets.Residual().double()
    model.one.eval()
    model.stem[0].weight.requires_grad_(False)
    model.register_buffer("steps", torch.tensor([3, 4]))
    small = slim(model, half(trace(model, PIXELS.double())))
    assert [module.training for module in small.modules()] == [module.training for module in model.modules()]
    assert not small.stem[0].weight.requires_grad
    assert small.stem[1].weight.requires_grad
    assert {tensor.dtype for tensor in small.parameters()} == {torch.float64}
    assert small.steps.tolist() == [3, 4]
    assert isinstance(small.one[0].weight, nn.Parameter)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept_and_checked_in_single(dtype):
    model = nets.Residual().to(dtype)
    small = slim(model, half(trace(model, PIXELS.to(dtype))))
    assert {tensor.dtype for tensor in small.parameters()} == {dtype}


def test_tied_weights_stay_tied():
    small = slim(NETWORKS["Shared"], half(GRAPHS["Shared"]))
    assert small.head.weight is small.other_head.weight
    assert small.head.weight.shape == (2, 3, 1, 1)
    assert small.head.in_channels == small.other_head.in_channels == 3


def test_parametrized_weights():
    model = nets.Depthwise()
    parametrizations.weight_norm(model.expand)
    graph = trace(model, PIXELS)
    small = slim(model, half(graph))
    assert small(PIXELS).shape == model(PIXELS).shape


def test_whole_heads():
    model = nets.Attention()
    graph = trace(model, torch.randn(1, 7, 6))
    small = slim(model, WidthPlan(graph, {"qkv": [1, 3], "wide": [0, 5, 9]}))
    assert (small.num_heads, small.qkv.out_features, small.project.in_features) == (2, 18, 6)
    assert small.wide.out_features == 3
    assert model.num_heads == 4


def test_a_network_without_channels():
    model = nets.OnlyClassifier()
    inputs = torch.randn(1, 3, 4, 4)
    small = slim(model, WidthPlan.uniform(trace(model, inputs), 0.5))
    assert torch.equal(small(inputs), model(inputs))


def test_named_inputs_and_dict_outputs():
    model = nets.Named()
    inputs = {"image": torch.randn(1, 3, 4, 4), "depth": torch.randn(1, 1, 4, 4)}
    small = slim(model, half(trace(model, inputs)))
    assert small.image.out_channels == 3
    assert small(**inputs)["mean"].shape == (1, 2)


def test_a_submodule_is_cut_inside_the_whole():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nets.Residual())
    graph = trace(model, PIXELS, submodule="1")
    small = slim(model, half(graph))
    assert small[1].one[0].out_channels == 2
    assert small(PIXELS).shape == (1, 5)


def test_wrong_sizes_are_never_returned():
    model = nets.WrittenSize()
    graph = trace(model, PIXELS)
    with pytest.raises(NumericsError, match="does not run: shape '\\[1, 8, 64\\]'"):
        slim(model, WidthPlan(graph, {"fixed": [0, 1, 2]}))


def test_a_difference_is_never_returned():
    class Offset(nn.Module):
        """Adds the channel count that is written in the code, which no trace sees."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.conv(x)
            return self.last(x * x.shape[1])

    model = Offset()
    with pytest.raises(NumericsError, match="differs from the masked one"):
        slim(model, half(trace(model, PIXELS)))


def test_an_inexact_group_only_has_to_run():
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    graph = trace(model, torch.randn(1, 6))
    assert not graph.groups["0"].exact
    assert WidthPlan.uniform(graph, 0.5).cuts.tensors == {}
    small = slim(model, WidthPlan(graph, {"0": [0, 2, 4]}))
    assert small[1].normalized_shape == (3,)


def test_group_norm_loses_whole_groups():
    model = nn.Sequential(nn.Conv2d(3, 12, 1), nn.GroupNorm(4, 12), nn.ReLU(), nn.Conv2d(12, 2, 1))
    graph = trace(model, PIXELS)
    assert graph.groups["0"].channels == 4
    small = slim(model, WidthPlan(graph, {"0": [1, 3]}))
    assert (small[1].num_groups, small[1].num_channels) == (2, 6)


def test_another_network_is_refused():
    plan = half(GRAPHS["Residual"])
    with pytest.raises(InputError, match="no tensor"):
        slim(nets.Depthwise(), plan)
    smaller = slim(NETWORKS["Residual"], plan)
    with pytest.raises(InputError, match="does not fit the plan"):
        slim(smaller, plan)


def test_what_cannot_be_copied_is_refused_with_a_sentence():
    model = nets.Residual()
    plan = half(trace(model, PIXELS))
    model.cache = (model.fc.weight * 2,)
    with pytest.raises(InputError, match="Residual can't be copied"):
        slim(model, plan)


def test_relative_error():
    assert relative_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])) == 0.5
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.ones(2), torch.zeros(2)) == 1
    assert relative_error(torch.ones(2), torch.ones(3)) == float("inf")
    assert relative_error(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")


def test_flat_tensors():
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    assert [len(tensor) for tensor in flat_tensors({"a": one, "b": [two, (three, None)]})] == [1, 2, 3]


def test_inexact_groups_are_cut_where_that_is_allowed():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(1, 8), nn.Conv2d(8, 4, 1))
    assert WidthPlan.uniform(trace(model, PIXELS), 0.5).widths == {"0": 8}
    allowed = WidthPlan.uniform(trace(model, PIXELS, allow_inexact=True), 0.5)
    assert allowed.widths == {"0": 4}
    assert not allowed.exact
    assert slim(model, allowed)[1].num_channels == 4
