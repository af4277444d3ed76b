"""Sizes in attributes: where they are read, how channels follow, and what they are set to. All widths by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.artifacts import bundle
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.sizes import Size, set_sizes
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import slim

PIXELS = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Split(nn.Module):
    """8 channels split into 2 and 6, each convolved by its own convolution and added up at 4."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [2, 6]
        self.first = nn.Conv2d(3, 8, 1)
        self.parts = nn.ModuleList([nn.Conv2d(2, 4, 1), nn.Conv2d(6, 4, 1)])
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.first(x).split(self.sizes, 1)
        return self.last(sum(conv(part) for conv, part in zip(self.parts, parts, strict=True)))


class Halves(nn.Module):
    """Halves by `width // 2`: the attribute is twice the size of a part."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.first = nn.Conv2d(3, 8, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.first(x).split(self.width // 2, 1)
        return self.last(one * other)


class Sliced(nn.Module):
    """The first 3 of 8 channels pass, the other 5 are convolved; `passing` says where the border is."""

    def __init__(self) -> None:
        super().__init__()
        self.passing = 3
        self.first = nn.Conv2d(3, 8, 1)
        self.inner = nn.Conv2d(5, 3, 1)
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x[:, : self.passing] + self.inner(x[:, self.passing :]))


class Viewed(nn.Module):
    """A scale of shape `shape` times what has as many channels; a second attribute is the size of positions too."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = (6, 1, 1)
        self.side = 4
        self.first = nn.Conv2d(3, 6, 1)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.last = nn.Conv2d(6, 4, 1)
        self.end = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.first(x) * self.scale.view(self.shape))
        return self.end(x.view(1, self.side, 16).view(1, 4, self.side, self.side))


def halved(model: nn.Module) -> tuple[WidthPlan, nn.Module]:
    """Return the plan that keeps the later half of every group, and the network."""
    model.eval()
    graph = trace(model, PIXELS)
    plan = WidthPlan.uniform(graph, 0.5, {group.name: np.arange(group.channels) for group in graph})
    return plan, slim(model, plan)


def test_a_split_at_positions_from_a_list():
    plan, small = halved(Split())
    # The parts are groups of their own: 1 of 2 and 3 of 6 stay.
    assert plan.cuts.attributes == {"sizes[0]": 1, "sizes[1]": 3}
    assert (small.sizes, small.first.out_channels) == ([1, 3], 4)


def test_a_size_that_was_divided():
    plan, small = halved(Halves())
    assert plan.cuts.attributes == {"width": 4}
    assert (small.width, small.first.out_channels, small.last.in_channels) == (4, 4, 2)


def test_slices_up_to_and_from_an_attribute():
    plan, small = halved(Sliced())
    # first's 3 and inner's 3 meet in the sum: half of 3, rounded to even, is 2; half of the 5 is 2.
    assert (small.passing, small.inner.in_channels, small.inner.out_channels) == (2, 2, 2)
    assert plan.widths == {"first": 2, "first#2": 2}


def test_a_shape_in_a_tuple_and_a_size_that_is_also_one_of_positions():
    plan, small = halved(Viewed())
    assert small.shape == (3, 1, 1)
    assert small.side == 4
    assert plan.widths == {"first": 3}
    assert any("`side`" in lock.reason for lock in plan.graph.locked)


def test_the_original_keeps_plain_numbers():
    model = Split()
    trace(model, PIXELS)
    assert [type(one) for one in model.sizes] == [int, int]


def test_a_bundle_brings_the_sizes_back(tmp_path):
    model = Split().eval()
    plan, small = halved(model)
    bundle.save(tmp_path, small, plan)
    again = bundle.load(tmp_path, Split())
    assert again.sizes == [1, 3]
    assert torch.equal(again(PIXELS), small(PIXELS))


@pytest.mark.parametrize(("divisor", "each"), [(2, 2), (4, 4)])
def test_division_keeps_the_origin(divisor, each):
    found = Size(8, "block.width") // divisor
    assert isinstance(found, Size)
    assert (int(found), found.key, found.each) == (8 // divisor, "block.width", each)


def test_other_arithmetic_is_a_plain_number():
    size = Size(8, "width")
    assert [type(one) for one in (size * 2, size + 1, size // 3, 3 // size)] == [int] * 4


def test_setting_sizes_in_lists_and_tuples():
    model = nn.Sequential(Split(), Viewed())
    set_sizes(model, {"0.sizes[1]": 5, "1.shape[0]": 2, "1.side": 7})
    assert (model[0].sizes, model[1].shape, model[1].side) == ([2, 5], (2, 1, 1), 7)


def test_few_wide_convolution_groups_become_narrower():
    model = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 3, groups=2), nn.Conv2d(8, 2, 1)).eval()
    graph = trace(model, PIXELS)
    # 6 inputs a group: channel i and i + 6 go together. 4 outputs a group: equally many of each go.
    assert {group.name: (group.channels, group.parts) for group in graph} == {"0": (6, 1), "1": (8, 2)}
    small = slim(model, WidthPlan.uniform(graph, 0.5))
    assert small[1].weight.shape == (4, 3, 3, 3)
    assert (small[1].groups, small[1].in_channels, small[1].out_channels) == (2, 6, 4)
