"""How nodes' sizes follow from the groups, where channels are not the second dimension."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.graph.layers import Axis
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from tests.nets import Chunked


class ChannelsLast(nn.Module):
    """A block as ConvNeXt has them: depthwise convolution 4, then norm, linear 4 -> 6 -> 4 on (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.LayerNorm(4)
        self.wide = nn.Linear(4, 6)
        self.narrow = nn.Linear(6, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inner = self.narrow(self.wide(inner).relu()).permute(0, 3, 1, 2)
        return self.last(x + inner)


class Sequence(nn.Module):
    """Two convolutions over a sequence, 3 -> 5 -> 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 5, 3)
        self.last = nn.Conv1d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


class Twice(nn.Module):
    """A linear layer of `size` to `size` that is used twice between two others, on (N, tokens, channels)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, size)
        self.shared = nn.Linear(size, size)
        self.last = nn.Linear(size, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shared(self.shared(self.first(x)).relu()).relu())


@pytest.fixture(scope="module")
def channels_last() -> Blueprint:
    model = ChannelsLast().eval()
    return Blueprint(model, trace(model, torch.zeros(1, 3, 5, 7)))


def test_channels_are_followed_through_transpositions(channels_last: Blueprint) -> None:
    nodes = channels_last.nodes
    stem, wide = Axis(0, {"stem": 1}), Axis(0, {"wide": 1})
    assert (nodes["norm"].cin, nodes["norm"].cout, nodes["norm"].size) == (stem, stem, (5, 7))
    assert (nodes["wide"].op, nodes["wide"].cin, nodes["wide"].cout, nodes["wide"].size) == (
        "MatMul",
        stem,
        wide,
        (5, 7),
    )
    assert (nodes["narrow"].cin, nodes["narrow"].cout, nodes["narrow"].size) == (wide, stem, (5, 7))
    assert (nodes["last"].cin, nodes["last"].cout, nodes["last"].size) == (stem, Axis(2), (5, 7))


def test_what_a_weight_knows_of_what_comes_in_is_believed() -> None:
    """Behind a split the tensor's channels can't be followed: half of the stem's eight go into `branch`."""
    model = Chunked().eval()
    nodes = Blueprint(model, trace(model, torch.zeros(1, 3, 4, 4))).nodes
    for stem, branch in ((8, 4), (6, 1), (2, 3)):
        widths = {"stem": stem, "branch": branch}
        assert nodes["branch"].cin.width(widths) == stem // 2
        assert nodes["last"].cin.width(widths) == stem // 2 + branch


def test_how_far_a_resize_goes_is_part_of_what_it_is() -> None:
    class Twofold(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.stem(x)
            return nn.functional.interpolate(x, scale_factor=2.0), nn.functional.interpolate(x, scale_factor=4.0)

    model = Twofold().eval()
    found = Blueprint(model, trace(model, torch.zeros(1, 3, 5, 6))).nodes.values()
    details = [node.detail.split()[-1] for node in found if node.op == "Resize"]
    assert details == ["out=10x12", "out=20x24"]


def test_transposed_weights_are_cut_without_another_export(
    channels_last: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = WidthPlan.from_scores(channels_last.graph, {}, {"wide": 3})
    slow = {tuple(one.dims) for one in channels_last.exported(plan).graph.initializer}
    monkeypatch.setattr(channels_last, "exported", None)
    quick = {one.name: tuple(one.dims) for one in onnx.load_model_from_string(channels_last.at(plan)).graph.initializer}
    assert (quick["wide.weight.T"], quick["narrow.weight.T"], quick["wide.bias"]) == ((4, 3), (3, 4), (3,))
    assert set(quick.values()) == slow


def test_channels_of_a_sequence_are_its_second_dimension() -> None:
    model = Sequence().eval()
    nodes = Blueprint(model, trace(model, torch.zeros(1, 3, 9))).nodes
    first = Axis(0, {"first": 1})
    assert (nodes["first"].cin, nodes["first"].cout, nodes["first"].size) == (Axis(3), first, (9,))
    assert (nodes["last"].cin, nodes["last"].cout, nodes["last"].size) == (first, Axis(2), (7,))


@pytest.mark.parametrize(
    "size", [8, 64, 128]
)  # by how large it is, the exporter transposes a weight once, twice, or not
def test_a_linear_layer_that_is_used_twice_is_followed_twice(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Twice(size).eval()
    blueprint = Blueprint(model, trace(model, torch.zeros(1, 5, 3)))
    (group,) = blueprint.graph.cuttable
    products = [node for node in blueprint.nodes.values() if node.op == "MatMul"]
    whole = Axis(0, {group.name: 1})
    assert [(node.cin, node.cout) for node in products] == [
        (Axis(3), whole),
        (whole, whole),
        (whole, whole),
        (whole, Axis(2)),
    ]
    monkeypatch.setattr(blueprint, "exported", None)
    small = onnx.load_model_from_string(blueprint.at(WidthPlan.from_scores(blueprint.graph, {}, {group.name: 4})))
    assert {tuple(one.dims) for one in small.graph.initializer if len(one.dims) == 2} == {(3, 4), (4, 4), (4, 2)}


def test_what_a_convolution_reads_has_its_channels_second() -> None:
    model = nn.Sequential(Turned(), nn.Conv1d(6, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 1)).eval()
    nodes = Blueprint(model, trace(model, torch.zeros(1, 9, 6))).nodes
    assert (nodes["1"].cin, nodes["1"].cout, nodes["1"].size) == (Axis(6), Axis(0, {"1": 1}), (9,))


class Turned(nn.Module):
    """(N, L, C) -> (N, C, L)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 1)
