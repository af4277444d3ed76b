import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgeprune.errors import BudgetError
from edgeprune.training.thresholds import estimate, land, masked, relative_sizes, step


def test_the_step_and_its_estimated_derivative_by_hand() -> None:
    x = torch.tensor([-1.5, -1.0, -0.5, -0.2, 0.0, 0.2, 0.4, 0.9, 1.1], requires_grad=True)
    found = step(x)
    assert found.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    found.sum().backward()
    expected = [0, 0.4, 0.4, 2 - 0.8, 2, 2 - 0.8, 2 - 1.6, 0.4, 0]
    assert x.grad.tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(x.grad, estimate(x.detach()))


def test_the_threshold_gets_minus_the_derivative() -> None:
    threshold = torch.tensor(0.9, requires_grad=True)
    step(torch.tensor([1.0, 0.9, 2.5]) - threshold).sum().backward()
    assert float(threshold.grad) == pytest.approx(-((2 - 0.4) + 2 + 0), abs=1e-5)


@pytest.mark.parametrize("dim", [0, 1])
def test_masked_entries_are_zero_and_go_on_learning(dim: int) -> None:
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    mask = torch.tensor([1.0, 0.0], requires_grad=True)
    found = masked(tensor, mask, dim)
    assert found.tolist() == ([[1, 2], [0, 0]] if dim == 0 else [[1, 0], [3, 0]])
    gradient = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    found.backward(gradient)
    assert torch.equal(tensor.grad, gradient)
    # Entry 0: 10*1 + 20*2 and 30*3 + 40*4 by rows; 10*1 + 30*3 and 20*2 + 40*4 by columns.
    assert mask.grad.tolist() == ([50, 250] if dim == 0 else [100, 200])


def test_relative_sizes_by_hand() -> None:
    weight = torch.tensor([[[1.0, -1.0]], [[2.0, 4.0]]], requires_grad=True)
    found = relative_sizes(weight)
    assert found.tolist() == [0.5, 1.5]  # 1 and 3 over their mean of 2
    assert not found.requires_grad


def linear(per_filter: dict[str, float], fixed: float) -> object:
    def cost(widths: dict[str, int]) -> tuple[float, dict[str, float]]:
        return fixed + sum(per_filter[name] * width for name, width in widths.items()), per_filter

    return cost


def test_landing_by_hand() -> None:
    # Full cost 0.1 + 3 * 0.1 + 2 * 0.3 = 1. In order of margins go a1 (-0.5), b0 (-0.1), a0 (0.2), then a2, b1.
    margins = {"a": torch.tensor([0.2, -0.5, 0.7]), "b": torch.tensor([-0.1, 0.9])}
    cost = linear({"a": 0.1, "b": 0.3}, 0.1)
    for target, a, b in [(0.95, [0, 2], [0, 1]), (0.85, [0, 2], [1]), (0.6, [0, 2], [1]), (0.55, [2], [1])]:
        kept = land(margins, {"a": 0, "b": 0}, cost, target)
        assert (kept["a"].tolist(), kept["b"].tolist()) == (a, b)
    assert land(margins, {"a": 2, "b": 0}, cost, 0.55)["a"].tolist() == [0, 2]


def test_a_target_below_the_floors_is_refused_with_the_floor() -> None:
    with pytest.raises(BudgetError, match=r"still costs 50\.0 % of the dense one, its bypasses included, and 40\.0 %"):
        land({"b": torch.tensor([1.0, 2.0])}, {"b": 1}, linear({"b": 0.3}, 0.2), 0.4)


@given(
    st.lists(st.lists(st.floats(-1, 2), min_size=1, max_size=6), min_size=1, max_size=4),
    st.floats(0.3, 1.0),
    st.integers(1, 5),
)
def test_landing_is_within_one_filter_and_never_above(values: list[list[float]], target: float, each: int) -> None:
    margins: dict[str, Tensor] = {str(at): torch.tensor(one) for at, one in enumerate(values)}
    per_filter = {name: float(each + at) for at, name in enumerate(margins)}
    total = sum(per_filter[name] * len(margin) for name, margin in margins.items()) * 1.2
    shares = {name: one / total for name, one in per_filter.items()}
    cost = linear(shares, 1 - 1 / 1.2)
    kept = land(margins, dict.fromkeys(margins, 0), cost, target)
    widths = {name: len(one) for name, one in kept.items()}
    found = cost(widths)[0]
    assert found <= target + 1e-9
    if any(len(kept[name]) < len(margin) for name, margin in margins.items()):
        assert found > target - max(shares.values()) - 1e-9
