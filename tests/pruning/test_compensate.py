from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.compensate import Refit, _affordable, compensate
from edgeprune.pruning.moments import POSITIONS, is_product
from edgeprune.pruning.slim import slim
from tests.nets import Residual


def cut(model: nn.Module, inputs: Tensor, kept: dict[str, list[int]], images: list[Tensor]) -> nn.Module:
    plan = WidthPlan(trace(model, inputs), kept)
    small = slim(model, plan)
    compensate(small, model, plan, images)
    return small


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    made = nn.Linear(len(weight[0]), len(weight))
    made.weight.data = torch.tensor(weight)
    made.bias.data = torch.tensor(bias)
    return made


def test_a_channel_that_another_one_knows_is_made_up_for() -> None:
    # The hidden channels are h, 2 h and -h + 1 of the same h: any one of them says all, and what is read,
    # h + 2 h - 3 (-h + 1) + 0.5 = 6 h - 2.5, is 6 of the first and -2.5 of the bias.
    model = nn.Sequential(linear([[1.0], [2.0], [-1.0]], [0.0, 0.0, 1.0]), linear([[1.0, 1.0, -3.0]], [0.5])).eval()
    images = [torch.randn(64, 1) for _ in range(3)]
    small = cut(model, torch.zeros(1, 1), {"0": [0]}, images)
    assert small[1].weight.item() == pytest.approx(6.0, abs=0.01)
    assert small[1].bias.item() == pytest.approx(-2.5, abs=0.01)


def test_a_convolution_passes_its_mean_to_the_batchnorm_behind() -> None:
    # The second channel is 3 wherever the first is anything: what it gave, 3 * 2, must come out of the mean.
    first = nn.Conv2d(1, 2, 1)
    first.weight.data = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)
    first.bias.data = torch.tensor([0.0, 3.0])
    second = nn.Conv2d(2, 1, 1, bias=False)
    second.weight.data = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1)
    model = nn.Sequential(first, second, nn.BatchNorm2d(1)).eval()
    model[2].running_mean.data[:] = 0.25
    images = torch.randn(16, 1, 4, 4)
    small = cut(model, torch.zeros(1, 1, 4, 4), {"0": [0]}, [images])
    assert small[1].weight.item() == pytest.approx(1.0, abs=0.01)
    assert small[2].running_mean.item() == pytest.approx(0.25 - 6.0, abs=0.05)
    assert torch.allclose(small(images), model(images), atol=0.05)


def pointwise(layer: nn.Module, weight: list[list[float]]) -> nn.Module:
    """Return a layer with this weight at its one kernel position; rows are the weight's first dimension."""
    layer.weight.data = torch.tensor(weight)[:, :, None, None]
    return layer


def test_what_a_transposed_convolution_lost_is_made_up_for_behind_it() -> None:
    # The hidden channels are h and 2 h, transposed h + 2 h and 2 h, and what is read is 5 h. Without the second hidden
    # channel the transposed ones are h and 0: what reads them can but take 5 of the first.
    model = nn.Sequential(
        pointwise(nn.Conv2d(1, 2, 1, bias=False), [[1.0], [2.0]]),
        pointwise(nn.ConvTranspose2d(2, 2, 1, bias=False), [[1.0, 0.0], [1.0, 1.0]]),
        pointwise(nn.Conv2d(2, 1, 1, bias=False), [[1.0, 1.0]]),
    ).eval()
    small = cut(model, torch.zeros(1, 1, 4, 4), {"0": [0]}, [torch.randn(64, 1, 4, 4)])
    assert small[1].weight.flatten().tolist() == [1.0, 0.0]
    assert small[2].weight.flatten().tolist() == pytest.approx([5.0, 1.0], abs=0.02)


class Concatenated(nn.Module):
    """Two branches into one 3x3 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(8, 5, 3, padding=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(torch.cat([self.one(x).relu(), self.other(x).relu()], 1))
        return result


@pytest.mark.parametrize("model", [Concatenated(), Residual()], ids=["concatenated", "residual"])
def test_it_is_nearer_to_the_dense_network_than_the_cut_alone(model: nn.Module) -> None:
    torch.manual_seed(0)
    model = model.eval()
    images = torch.randn(128, 3, 8, 8)
    plan = WidthPlan.uniform(trace(model, torch.zeros(1, 3, 8, 8)), 0.5)
    small = slim(model, plan)
    before = float((small(images) - model(images)).detach().square().mean())
    compensate(small, model, plan, list(images.split(32)))
    unseen = torch.randn(64, 3, 8, 8)
    assert float((small(unseen) - model(unseen)).detach().square().mean()) < 0.8 * before


def test_nothing_else_changes() -> None:
    model = Concatenated().train()
    before = copy.deepcopy(model.state_dict())
    images = [torch.randn(8, 3, 8, 8)]
    plan = WidthPlan(trace(model, torch.zeros(1, 3, 8, 8)), {"one": [0, 2]})
    small = slim(model, plan)
    compensate(small, model, plan, images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert small.training
    # Before the first layer that reads a cut input, everything computes what it did.
    assert torch.equal(small.one.weight, model.one.weight[[0, 2]])
    assert torch.equal(small.other.weight, model.other.weight)
    assert not torch.equal(small.last.weight, model.last.weight[:, [0, 2, 4, 5, 6, 7]])
    assert small.last.weight.requires_grad


def test_a_plan_that_cuts_nothing_changes_nothing() -> None:
    model = Concatenated().eval()
    plan = WidthPlan.dense(trace(model, torch.zeros(1, 3, 8, 8)))
    small = slim(model, plan)
    compensate(small, model, plan, [torch.randn(4, 3, 8, 8)])
    assert all(torch.equal(one, other) for one, other in zip(small.parameters(), model.parameters(), strict=True))


class Twice(nn.Module):
    """One layer that runs twice, and one whose weight another one shares."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.one, self.other = nn.Linear(4, 3), nn.Linear(4, 3)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.again(self.again(self.first(x).relu()).relu()).relu()
        result: Tensor = self.one(hidden) + self.other(hidden)
        return result


def test_layers_that_run_twice_or_share_their_weight_are_left_alone() -> None:
    model = Twice().eval()
    graph = trace(model, torch.zeros(1, 4))
    plan = WidthPlan.uniform(graph, 0.5)
    small, plain = slim(model, plan), slim(model, plan)
    compensate(small, model, plan, [torch.randn(32, 4)])
    for name in ("again", "one", "other"):
        assert torch.equal(small.get_submodule(name).weight, plain.get_submodule(name).weight)


def test_a_large_network_is_looked_at_on_fewer_images_at_more_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [torch.zeros(40, 1), torch.zeros(40, 1), torch.zeros(20, 1)]
    monkeypatch.setattr("edgeprune.pruning.compensate.WORK", 5000.0)
    monkeypatch.setattr("edgeprune.pruning.compensate.MEMORY", 7000.0)
    # 5,000 at 100 an image are 50 of the 100 images, at twice as many positions each.
    batches, positions = _affordable(images, work=100.0, memory=1.0)
    assert ([len(batch) for batch in batches], positions) == ([40, 10], 2 * POSITIONS)
    # 7,000 bytes at 140 an image are 50 as well.
    batches, positions = _affordable(images, work=1.0, memory=140.0)
    assert ([len(batch) for batch in batches], positions) == ([40, 10], 2 * POSITIONS)
    batches, positions = _affordable(images, work=1000.0, memory=1.0)
    assert ([len(batch) for batch in batches], positions) == ([32], 100), "32 at least: 100 / 32 of 32, rounded up"
    batches, positions = _affordable(images, work=1.0, memory=1.0)
    assert ([len(batch) for batch in batches], positions) == ([40, 40, 20], POSITIONS)


def test_what_memory_does_not_allow_to_remember_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))).eval()
    graph = trace(model, torch.zeros(1, 4))
    images = [torch.randn(16, 4), torch.randn(16, 4)]
    plan = WidthPlan(graph, {"0": [0, 1]})
    at_once, again = slim(model, plan), slim(model, plan)
    runs: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: runs.append(len(inputs[0])))
    compensate(at_once, model, plan, images)
    assert runs == [1, 16, 16], "one image to see how large it is, then each batch once"
    runs.clear()
    # A layer gives 32 rows of 4 floats, 512 bytes: the second of the three that are fitted is one too many, and ends
    # the first run.
    monkeypatch.setattr("edgeprune.pruning.compensate.MEMORY", 700.0)
    compensate(again, model, plan, images)
    assert runs == [1, 16, 16, 16, 16]
    assert all(torch.equal(one, other) for one, other in zip(at_once.parameters(), again.parameters(), strict=True))


def test_one_fit_after_another_needs_the_dense_network_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))).eval()
    graph = trace(model, torch.zeros(1, 4))
    images = [torch.randn(64, 4)]
    plans = [WidthPlan(graph, {"0": kept}) for kept in ([0, 1], [1, 2, 3])]
    alone, in_a_row = [slim(model, plan) for plan in plans], [slim(model, plan) for plan in plans]
    runs: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: runs.append(len(inputs[0])))
    refit = Refit(model, graph, images)
    for small, plan in zip(in_a_row, plans, strict=True):
        refit.fit(small, plan)
    assert runs == [1, 64]
    for small, same, plan in zip(alone, in_a_row, plans, strict=True):
        compensate(small, model, plan, images)
        assert all(torch.equal(one, other) for one, other in zip(small.parameters(), same.parameters(), strict=True))


class Same(nn.Conv2d):
    """Pads by itself, as a TensorFlow layer does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_layers_that_are_more_than_their_weight_are_no_products() -> None:
    plain = (nn.Conv2d(3, 4, 3), nn.Linear(3, 4), nn.modules.linear.NonDynamicallyQuantizableLinear(3, 4))
    assert all(is_product(layer) for layer in plain)
    others = (Same(3, 4, 3), nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), nn.utils.parametrizations.weight_norm(plain[1]))
    assert not any(is_product(layer) for layer in others)
