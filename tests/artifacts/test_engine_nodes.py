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
