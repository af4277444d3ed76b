"""Random networks built from all blocks: compact equals masked, sizes add up, plans survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.removal import Constant
from edgeprune.pruning.slim import slim, slim_error
from tests.nets import with_statistics

KINDS = [
    *["conv", "depthwise", "grouped", "few_groups", "transposed", "residual", "gate", "branches", "half", "shuffle"],
    *["gated", "norm", "sized", "partial"],
]
PIXELS = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Conv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups), nn.BatchNorm2d(outputs), nn.SiLU())


class Residual(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(Conv(channels, inner), Conv(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 3, 1)
        self.widen = nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.widen(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Branches(nn.Module):
    def __init__(self, channels: int, other: int) -> None:
        super().__init__()
        self.other = Conv(channels, other)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.other(x), functional.avg_pool2d(x, 3, 1, 1)], 1)


class Half(nn.Module):
    """One half passes, the other is convolved; concatenated and perhaps shuffled."""

    def __init__(self, channels: int, shuffle: bool) -> None:
        super().__init__()
        self.branch = Conv(channels // 2, channels // 2)
        self.shuffle = shuffle

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, 1)
        x = torch.cat([one, self.branch(other)], 1)
        return functional.channel_shuffle(x, 2) if self.shuffle else x


class Gated(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.wide(x).chunk(2, 1)
        return one * other.sigmoid()


class Sized(nn.Module):
    """Splits at sizes from a list, convolves each part, joins them again."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sizes = (3, channels - 3)
        self.parts = nn.ModuleList([Conv(size, size) for size in self.sizes])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(one) for part, one in zip(self.parts, x.split(self.sizes, 1), strict=True)], 1)


class Partial(nn.Module):
    """Adds a branch to the first channels, as many as an attribute says."""

    def __init__(self, channels: int, own: int) -> None:
        super().__init__()
        self.own = own
        self.branch = Conv(channels, own)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, : self.own] + self.branch(x), x[:, self.own :]], 1)


class Dense(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(4 * channels, 7)
        self.last = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.gelu(self.hidden(functional.adaptive_avg_pool2d(x, 2).flatten(1))))


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """Draw a network of up to six blocks; channel counts stay multiples of 4."""
    torch.manual_seed(0)
    channels = draw(st.sampled_from([8, 12]))
    layers: list[nn.Module] = [Conv(3, channels)]
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(KINDS))
        if kind == "conv":
            layers.append(Conv(channels, channels := draw(st.sampled_from([8, 12]))))
        elif kind == "branches" and channels <= 12:
            layers.append(Branches(channels, 4))
            channels = 2 * channels + 4
        else:
            layers.append(
                {
                    "depthwise": lambda c: Conv(c, c, groups=c),
                    "grouped": lambda c: Conv(c, c, groups=4),
                    "few_groups": lambda c: Conv(c, c, groups=2),
                    "transposed": lambda c: nn.ConvTranspose2d(c, c, 3, padding=1, groups=2),
                    "sized": Sized,
                    "partial": lambda c: Partial(c, 5),
                    "residual": lambda c: Residual(c, 5),
                    "gate": Gate,
                    "half": lambda c: Half(c, shuffle=False),
                    "shuffle": lambda c: Half(c, shuffle=True),
                    "gated": Gated,
                    "norm": lambda c: nn.GroupNorm(2, c),
                }.get(kind, nn.BatchNorm2d)(channels)
            )
    return with_statistics(nn.Sequential(*layers, Dense(channels)))


def check(model: nn.Module, seed: int) -> None:
    graph = trace(model, PIXELS)
    random = np.random.default_rng(seed)
    scores = {group.name: random.random(group.channels) for group in graph}
    widths = {
        group.name: group.least if random.random() < 0.3 else int(random.choice(group.possible))
        for group in graph
        if group.exact
    }
    plan = WidthPlan.from_scores(graph, scores, widths)
    assert WidthPlan.from_json(graph, json.loads(json.dumps(plan.to_json()))) == plan
    small = slim(model, plan, check=False)
    assert slim_error(model, plan, small) < 1e-4
    # A layer that became a constant has a bias, whether it had one before or not.
    constants = {name: one for name, one in small.named_modules() if isinstance(one, Constant)}
    new = sum(one.bias.numel() for name, one in constants.items() if model.get_submodule(name).bias is None)
    assert plan.params + new == sum(t.numel() for t in small.parameters())
    assert plan.macs == trace(small, PIXELS).macs()


quick = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(networks(), st.integers(0, 1000))
def test_random_networks(model, seed):
    check(model, seed)


@pytest.mark.slow
@settings(quick, max_examples=60)
@given(networks(), st.integers(0, 1000))
def test_many_random_networks(model, seed):
    check(model, seed)
