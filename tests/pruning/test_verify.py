from __future__ import annotations

import torch
from torch import nn

from edgeprune.graph.trace import trace
from edgeprune.pruning.verify import enlivened, verified
from tests import nets

PIXELS = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Blocks(nn.Module):
    """Several networks with a size in their code, one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nets.WrittenSize()
        self.between = nn.Conv2d(2, 3, 1)
        self.second = nets.WrittenSize()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(self.first(x)))


def test_a_sound_network_is_unchanged():
    graph = trace(nets.Residual(), PIXELS)
    assert verified(nets.Residual(), graph).groups == graph.groups


def test_the_group_that_breaks_is_locked_with_the_line_of_code():
    model = nets.WrittenSize()
    graph = verified(model, trace(model, PIXELS))
    assert list(graph.groups) == ["free"]
    (reason,) = [one.reason for one in graph.locked if "fixed" in one.modules]
    assert "tests/nets.py" in reason
    assert "x.view(x.shape[0], 8, x.shape[2] * x.shape[3])" in reason
    assert graph.axis("free.weight", 1).fixed == 8


def test_the_same_group_of_another_block_is_locked_too():
    model = Blocks()
    graph = trace(model, PIXELS)
    assert list(graph.groups) == ["first.fixed", "first.free", "first.last", "between", "second.fixed", "second.free"]
    assert list(verified(model, graph).groups) == ["first.free", "first.last", "between", "second.free"]


def test_a_wrong_value_is_found_by_bisection():
    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(3, 3, 1) for _ in range(6)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for at, conv in enumerate(self.convs):
                x = conv(x)
                if at == 3:
                    x = x * x.shape[1]
            return x

    model = Offset()
    graph = verified(model, trace(model, PIXELS))
    assert list(graph.groups) == ["convs.0", "convs.1", "convs.2", "convs.4"]
    assert any("outputs differ" in one.reason for one in graph.locked)


def test_zeros_of_a_new_network_do_not_hide_a_mistake():
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.last = nn.Conv2d(4, 2, 1)
            nn.init.zeros_(self.last.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return self.last(x * x.shape[1])

    model = Hidden()
    assert verified(model, trace(model, PIXELS)).groups == {}
    assert bool((model.last.weight == 0).all())


def test_only_constant_tensors_are_enlivened():
    model = nets.Residual()
    copy = enlivened(model, seed=0)
    assert torch.equal(copy.fc.weight, model.fc.weight)
    assert len(copy.stem[1].running_var.unique()) == 8
    assert copy.stem[1].num_batches_tracked == 0
