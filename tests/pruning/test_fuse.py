import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from edgeprune.graph.trace import trace
from edgeprune.pruning.fuse import fuse


def randomised(norm: nn.Module) -> nn.Module:
    """Give a BatchNorm statistics and a scale that are far from 0 and 1; scales of both signs."""
    state = norm.state_dict()
    for name, tensor in state.items():
        if name == "running_var":
            tensor.uniform_(0.1, 4)
        elif tensor.is_floating_point():
            tensor.normal_(0, 2)
    return norm


def error(model: nn.Module, fused: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(inputs)
        return float((fused(inputs) - expected).abs().max() / expected.abs().max())


def test_one_number_by_hand() -> None:
    # y = 3 * ((2 x + 1) - 5) / sqrt(4 - eps + eps) + 7 = 3 x + 1
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    model.load_state_dict(
        {
            "0.weight": torch.tensor([[2.0]]),
            "0.bias": torch.tensor([1.0]),
            "1.weight": torch.tensor([3.0]),
            "1.bias": torch.tensor([7.0]),
            "1.running_mean": torch.tensor([5.0]),
            "1.running_var": torch.tensor([4.0 - model[1].eps]),
            "1.num_batches_tracked": torch.tensor(0),
        }
    )
    fused = fuse(model, [("0", "1")])
    assert fused.get_submodule("0").weight.item() == pytest.approx(3.0)
    assert fused.get_submodule("0").bias.item() == pytest.approx(1.0)


CASES = {
    "Conv1d": (nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d(6), (2, 4, 9)),
    "Conv2d without bias": (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "Conv2d, strided, reflecting": (nn.Conv2d(4, 6, 3, 2, 1, padding_mode="reflect"), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "Conv2d, grouped": (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "Conv2d, depthwise": (nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), (2, 4, 9, 9)),
    "Conv3d": (nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6), (2, 4, 5, 5, 5)),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3, 2, bias=False), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "ConvTranspose2d, grouped": (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "ConvTranspose3d": (nn.ConvTranspose3d(4, 6, 3), nn.BatchNorm3d(6), (2, 4, 5, 5, 5)),
    "Linear": (nn.Linear(4, 6), nn.BatchNorm1d(6), (5, 4)),
    "BatchNorm without scale": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), (2, 4, 9, 9)),
}


BEFORE = {
    "Conv1d": (nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "Conv2d without bias": (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, 2, bias=False), (2, 4, 9, 9)),
    "Conv2d, grouped": (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 9)),
    "Conv2d, depthwise": (nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, groups=4), (2, 4, 9, 9)),
    "Linear": (nn.BatchNorm1d(4), nn.Linear(4, 6), (5, 4)),
    "BatchNorm without scale": (nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 6, 1), (2, 4, 9, 9)),
}


@pytest.mark.parametrize("name", BEFORE)
def test_the_function_stays_with_the_norm_first(name: str) -> None:
    torch.manual_seed(0)
    norm, layer, shape = BEFORE[name]
    model = nn.Sequential(randomised(norm), layer, nn.ReLU()).eval()
    example = torch.randn(shape)
    graph = trace(model, example)
    assert graph.foldable == (("0", "1"),)
    fused = fuse(model, graph.foldable)
    assert isinstance(fused.get_submodule("0"), nn.Identity)
    assert error(model, fused, example) < 1e-5


class AfterConcat(nn.Module):
    """Two halves joined, normalised, and read by a convolution that pads."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
        self.norm = randomised(nn.BatchNorm2d(4))
        self.last = nn.Conv2d(4, 5, 3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(torch.cat([self.left(x), self.right(x)], 1)))


@pytest.mark.parametrize(("padding", "folded"), [(0, (("norm", "last"),)), (1, ())])
def test_a_norm_before_a_layer_that_pads_stays(padding: int, folded: tuple[tuple[str, str], ...]) -> None:
    torch.manual_seed(0)
    model, example = AfterConcat(padding).eval(), torch.randn(1, 3, 6, 6)
    graph = trace(model, example)
    assert graph.foldable == folded
    assert error(model, fuse(model, graph.foldable), example) < 1e-5


def test_a_norm_is_folded_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1))
    assert trace(model, torch.randn(1, 3, 4, 4)).foldable == (("0", "1"),)


def test_norms_on_both_sides_are_folded() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(randomised(nn.BatchNorm2d(3)), nn.Conv2d(3, 4, 1), randomised(nn.BatchNorm2d(4))).eval()
    example = torch.randn(1, 3, 4, 4)
    graph = trace(model, example)
    assert graph.foldable == (("0", "1"), ("1", "2"))
    assert error(model, fuse(model, graph.foldable), example) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_the_function_stays(name: str) -> None:
    torch.manual_seed(0)
    layer, norm, shape = CASES[name]
    model = nn.Sequential(layer, randomised(norm), nn.ReLU())
    before = copy.deepcopy(model)
    fused = fuse(model, [("0", "1")])
    assert isinstance(fused.get_submodule("1"), nn.Identity)
    assert not any(module.training for module in fused.modules())
    assert error(model, fused, torch.randn(shape)) < 1e-5
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    )


def test_the_norm_of_tokens_is_not_that_of_features() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).eval()
    assert trace(model, torch.zeros(1, 6)).foldable == (("0", "1"),)
    assert trace(model, torch.zeros(1, 6, 6)).foldable == (), "6 tokens of 6 features"


@settings(max_examples=25, deadline=None)
@given(groups=st.integers(1, 3), inputs=st.integers(1, 3), outputs=st.integers(1, 3), transposed=st.booleans())
def test_any_grouping(groups: int, inputs: int, outputs: int, transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = nn.Sequential(kind(groups * inputs, groups * outputs, 2, groups=groups), nn.BatchNorm2d(groups * outputs))
    randomised(model[1])
    assert error(model, fuse(model, [("0", "1")]), torch.randn(2, groups * inputs, 4, 4)) < 1e-5


class Siblings(nn.Module):
    """One input with two consumers, each followed by its own BatchNorm, and a weight that both share."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.right.weight = self.left.weight
        self.left_norm, self.right_norm = randomised(nn.BatchNorm2d(4)), randomised(nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        left: Tensor = self.left_norm(self.left(x))
        return left + self.right_norm(self.right(x))


def test_shared_weights_part_when_their_norms_differ() -> None:
    model = Siblings()
    fused = fuse(model, [("left", "left_norm"), ("right", "right_norm")])
    assert error(model, fused, torch.randn(2, 4, 3, 3)) < 1e-5
    assert model.left.weight is model.right.weight


class Scaled(nn.Conv2d):
    """Computes with another weight than its own."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight / self.weight.norm(), self.bias)


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        (Scaled(4, 6, 3), nn.BatchNorm2d(6)),
        (weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)),
        (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)),
        (nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6)),
        (nn.MaxPool2d(2), nn.BatchNorm2d(4)),
    ],
)
def test_what_cannot_be_folded_is_left_alone(layer: nn.Module, norm: nn.Module) -> None:
    model = nn.Sequential(layer, norm)
    fused = fuse(model, [("0", "1")])
    assert type(fused.get_submodule("1")) is type(norm)
    assert error(model, fused, torch.randn(2, 4, 9, 9)) == 0


def test_dtype_stays() -> None:
    fused = fuse(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)).double(), [("0", "1")])
    assert {parameter.dtype for parameter in fused.parameters()} == {torch.float64}
