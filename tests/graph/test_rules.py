"""Operators between a convolution to 8 channels and another: what is left to cut, and that it is exact."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.errors import InputError
from edgeprune.graph.call import Call
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.rules import MODULE_RULES, RULES, rule
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import slim, slim_error

PIXELS = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """Conv 3 -> 8, an operator, and a convolution or linear layer of as many inputs as it leaves."""

    def __init__(self, op: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.op = op
        self.first = nn.Conv2d(3, 8, 1)
        rank = self.op(self.first(PIXELS)).ndim
        self.last = {2: nn.LazyLinear, 3: nn.LazyConv1d, 4: nn.LazyConv2d, 5: nn.LazyConv3d}[rank](
            2, *((1,) if rank > 2 else ())
        )
        self.last(self.op(self.first(PIXELS)))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.op(self.first(x)))


def shuffled(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.reshape(batch, groups, channels // groups, height, width)
    return x.transpose(1, 2).reshape(batch, channels, height, width)


def scaled_in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x.mul_(2).add_(1).clamp_(0, 3)
    return x


EIGHT = {"first": 8}
CASES: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, int]]] = {
    "cast": (lambda x: x.double().float(), EIGHT),
    "activation": (functional.hardswish, EIGHT),
    "scalars": (lambda x: (2 * x - 1) / 3 + x**2, EIGHT),
    "in place": (scaled_in_place, EIGHT),
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x), EIGHT),
    "clamp": (lambda x: x.clamp(min=-1), EIGHT),
    "max of two": (lambda x: torch.maximum(x, -x), EIGHT),
    "max method of two": (lambda x: torch.max(x, -x), EIGHT),
    "max pool": (lambda x: functional.max_pool2d(x, 3, 2, 1), EIGHT),
    "average pool": (lambda x: functional.avg_pool2d(x, 2), EIGHT),
    "adaptive pool": (lambda x: functional.adaptive_avg_pool2d(x, 3), EIGHT),
    "resize": (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), EIGHT),
    "pad": (lambda x: functional.pad(x, (1, 2, 1, 2), mode="reflect"), EIGHT),
    "constant pad": (lambda x: functional.pad(x, (1, 2, 1, 2)), EIGHT),
    "roll positions": (lambda x: torch.roll(x, (1, 2), (2, 3)), EIGHT),
    "flip positions": (lambda x: x.flip(2), EIGHT),
    "flip channels": (lambda x: x.flip(1), EIGHT),
    "flip channels of halves": (lambda x: x.view(1, 2, -1, 8, 8).flip((1, 2)).flatten(1, 2), {"first": 8}),
    "softmax over positions": (lambda x: x.softmax(3), EIGHT),
    "cumsum over positions": (lambda x: x.cumsum(2), EIGHT),
    "sum over positions": (lambda x: x.sum((2, 3)), EIGHT),
    "max over positions": (lambda x: x.amax((2, 3), keepdim=True), EIGHT),
    "max with indices": (lambda x: x.max(2).values, EIGHT),
    "top positions": (lambda x: x.flatten(2).topk(4).values, EIGHT),
    "norm over positions": (lambda x: x / (x.norm(dim=(2, 3), keepdim=True) + 1), EIGHT),
    "flatten positions": (lambda x: x.flatten(2), EIGHT),
    "flatten channels": (lambda x: x.flatten(1), EIGHT),
    "permute and back": (lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2), EIGHT),
    "movedim": (lambda x: x.movedim(1, -1).movedim(-1, 1), EIGHT),
    "squeeze": (lambda x: x.mean(3, keepdim=True).squeeze(3), EIGHT),
    "unsqueeze": (lambda x: x.unsqueeze(2), EIGHT),
    "concatenate": (lambda x: torch.cat([x, -x], 1), EIGHT),
    "concatenate positions": (lambda x: torch.cat([x, -x], 2), EIGHT),
    "stack": (lambda x: torch.stack([x, -x], 2), EIGHT),
    "stack and sum": (lambda x: torch.stack([x, -2 * x], 1).sum(1), EIGHT),
    "repeat": (lambda x: x.repeat(1, 3, 1, 1), EIGHT),
    "repeat interleaved": (lambda x: x.repeat_interleave(2, 1), EIGHT),
    "expand": (lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4), EIGHT),
    "expand as": (lambda x: x.mean((2, 3), keepdim=True).expand_as(x), EIGHT),
    "normalised in place": (lambda x: functional.normalize(x, dim=1), {}),
    "unfold": (lambda x: functional.unfold(x, 3, padding=1), EIGHT),
    "slice positions": (lambda x: x[:, :, 1:-1, ::2], EIGHT),
    "index positions": (lambda x: x[:, :, torch.tensor([0, 2, 4])], EIGHT),
    "select a position": (lambda x: x[:, :, 3], EIGHT),
    "grid sample": (lambda x: functional.grid_sample(x, torch.zeros(1, 2, 2, 2), align_corners=False), EIGHT),
    "gated halves": (lambda x: x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :].sigmoid(), {"first": 4}),
    "glu": (lambda x: functional.glu(x, 1), {"first": 4}),
    "chunks": (lambda x: torch.cat(x.chunk(4, 1)[::2], 1), {"first": 8}),
    "split": (lambda x: torch.cat([x.split(x.shape[1] // 2, 1)[1], x], 1), {"first": 8}),
    "first quarter": (lambda x: x[:, : x.shape[1] // 4], {"first": 8}),
    "shuffle in 2": (lambda x: shuffled(x, 2), {"first": 4}),
    "shuffle in 4, then 2": (lambda x: shuffled(shuffled(x, 2), 2), {"first": 2}),
    "channel shuffle": (lambda x: functional.channel_shuffle(x, 2), {"first": 4}),
    "pixel shuffle": (lambda x: functional.pixel_shuffle(x, 2), {"first": 2}),
    "pixel unshuffle": (lambda x: functional.pixel_unshuffle(x, 2), EIGHT),
    "sum of halves": (lambda x: x.view(x.shape[0], 2, -1, 8, 8).sum(1), {"first": 4}),
    "attention over halves": (lambda x: x.view(x.shape[0], 2, -1, 8, 8).softmax(1).sum(1), {"first": 4}),
    "view and back": (lambda x: x.view(1, 2, -1, 8, 8).relu().view(1, -1, 8, 8), {"first": 8}),
    "einsum": (lambda x: torch.einsum("bchw,bcHW->bchW", x, x), EIGHT),
    "gram matrix": (lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2), {}),
    "product over channels": (lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).unsqueeze(1), EIGHT),
    "sum over channels": (lambda x: x - x.mean(1, keepdim=True), {}),
    "softmax over channels": (lambda x: x.softmax(1), {}),
    "sorted channels": (lambda x: x.sort(1).values, {}),
    "rolled channels": (lambda x: x.roll(1, 1), {}),
    "one channel": (lambda x: x[:, 3:4] + x, {}),
    "every other channel": (lambda x: x[:, ::2], {}),
    "unequal split": (lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1), {}),
    "resized channels": (lambda x: functional.interpolate(x.permute(0, 2, 1, 3), scale_factor=(1, 1)), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name):
    op, expected = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Between(op)
    graph = trace(model, PIXELS)
    assert {group.name: group.channels for group in graph if group.exact} == expected
    assert not [one.reason for one in graph.locked if "no channel rule" in one.reason]
    random = np.random.default_rng(0)
    plan = WidthPlan.uniform(graph, 0.5, {group.name: random.random(group.channels) for group in graph})
    small = slim(model, plan, check=False)
    assert slim_error(model, plan, small) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(8, 6, 2, stride=2),
        nn.ConvTranspose2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 12, 3, groups=4),
        nn.Conv2d(8, 16, 3, groups=8),
        nn.Conv2d(8, 6, 3, groups=2),
        nn.BatchNorm2d(8),
        nn.InstanceNorm2d(8, affine=True),
        nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        nn.GroupNorm(4, 8),
        nn.GroupNorm(8, 8),
        nn.PReLU(8),
        nn.PReLU(),
        nn.Sequential(nn.Conv2d(8, 6, (1, 3)), nn.Conv2d(6, 4, (3, 1))),
    ],
    ids=str,
)
def test_layer(layer):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer, nn.LazyConv2d(2, 1))
    model(PIXELS)
    graph = trace(model, PIXELS)
    assert len(graph.groups) > 0
    assert all(group.exact for group in graph)
    plan = WidthPlan.uniform(graph, 0.5)
    assert plan.macs < graph.macs()
    small = slim(model, plan, check=False)
    assert slim_error(model, plan, small) < 1e-5


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Conv1d(8, 2, 3)], (1, 3, 16)),
        ([nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.Conv3d(8, 2, 3)], (1, 3, 6, 6, 6)),
        ([nn.ConvTranspose1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 2, 3)], (1, 3, 16)),
        ([nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)], (1, 5, 3)),
        ([nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)], (3, 4, 4)),
    ],
    ids=["1d", "3d", "transposed 1d", "tokens", "without a batch"],
)
def test_other_ranks(layers, shape):
    model = nn.Sequential(*layers)
    graph = trace(model, torch.randn(shape))
    assert {group.name: group.channels for group in graph} == {"0": 8}
    slim(model, WidthPlan.uniform(graph, 0.5))


def test_a_rule_of_your_own():
    @torch.library.custom_op("edgeprune_test::double_it", mutates_args=())
    def double_it(x: Tensor) -> Tensor:
        return 2 * x

    double_it.register_fake(torch.empty_like)
    model = Between(lambda x: double_it(x))
    assert "no channel rule for double_it" in {one.reason for one in trace(model, PIXELS).locked}

    @rule("edgeprune_test::double_it")
    def keeps_channels(call: Call):
        return call.tensor("x").factors

    try:
        graph = trace(model, PIXELS)
        assert {group.name: group.channels for group in graph} == EIGHT
        slim(model, WidthPlan.uniform(graph, 0.5))
        with pytest.raises(InputError, match="already"):
            rule("edgeprune_test::double_it")(keeps_channels)
    finally:
        del RULES["double_it"]


class Channelwise(nn.Module):
    """A scale a channel through an operator that nobody has a rule for."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j1(x) * self.scale.view(-1, 1, 1)


def test_a_rule_for_a_module_of_your_own():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Channelwise(8), nn.Conv2d(8, 8, 1), Channelwise(8), nn.Conv2d(8, 4, 1))
    assert list(trace(model, PIXELS).groups) == []

    @rule(Channelwise)
    def scales_channels(call: Call):
        call.same(call.channel(call.x, 1), call.channel(call.tensor("scale"), 0), "no channels")
        return call.x.factors

    try:
        graph = trace(model, PIXELS)
        assert {group.name: group.modules for group in graph} == {"0": ("0", "1", "2"), "2": ("2", "3", "4")}
        small = slim(model, WidthPlan.uniform(graph, 0.5))
        assert [tuple(one.shape) for one in (small[1].scale, small[3].scale)] == [(4,), (4,)]
        with pytest.raises(InputError, match="'Channelwise' already"):
            rule(Channelwise)(scales_channels)
    finally:
        del MODULE_RULES[Channelwise]
