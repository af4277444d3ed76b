"""Learnable thresholds on the sizes of filters: hard masks whose thresholds learn all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from edgeprune.errors import BudgetError
from edgeprune.units import format_percent

Cost = Callable[[Mapping[str, int]], tuple[float, Mapping[str, float]]]
"""Widths (layer or group -> filters left) -> the share of the dense network's cost, and what one more filter adds."""


class _Step(torch.autograd.Function):
    """1 where x > 0, else 0; its derivative is taken as 2 - 4|x| up to 0.4, 0.4 up to 1, and 0 beyond.

    The long-tailed estimator of Dynamic Sparse Training (Liu et al. 2020, arXiv 2005.06870), as we remember it.
    """

    @staticmethod
    def forward(saved: Any, x: Tensor) -> Tensor:
        saved.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(saved: Any, *gradients: Tensor) -> Tensor:
        (x,) = saved.saved_tensors
        return gradients[0] * estimate(x)


class _Masked(torch.autograd.Function):
    """tensor * mask along a dimension; the tensor's gradient passes as if nothing were masked."""

    @staticmethod
    def forward(saved: Any, tensor: Tensor, mask: Tensor, dim: int) -> Tensor:
        saved.save_for_backward(tensor)
        saved.others = [other for other in range(tensor.ndim) if other != dim]
        return tensor * mask.to(tensor.dtype).view([-1 if other == dim else 1 for other in range(tensor.ndim)])

    @staticmethod
    def backward(saved: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (tensor,) = saved.saved_tensors
        by_entry = gradients[0] * tensor
        by_mask = by_entry.sum(saved.others, dtype=torch.float32) if saved.others else by_entry
        return gradients[0], by_mask, None


def step(x: Tensor) -> Tensor:
    """Return 1 where x > 0, else 0, with a derivative to learn by."""
    found: Tensor = _Step.apply(x)
    return found


def masked(tensor: Tensor, mask: Tensor, dim: int = 0) -> Tensor:
    """Return `tensor` with entry i of `dim` times mask[i]; the gradient passes to masked entries too: they may return.

    The gradient of mask[i] is the sum of gradient * tensor over entry i, masked or not.
    """
    found: Tensor = _Masked.apply(tensor, mask, dim)
    return found


def estimate(x: Tensor) -> Tensor:
    """Return the derivative that `step` is given: 2 at 0, falling to 0.4 at 0.4, 0.4 up to 1, 0 beyond."""
    size = x.abs()
    return (2 - 4 * size).clamp_min(0.4) * (size <= 1)


def relative_sizes(weight: Tensor) -> Tensor:
    """Return the mean |entry| of each filter over their mean, (filters,); 1 on average, and not differentiable.

    Dimensionless, so that a threshold means the same in every layer; known before the first step; moves with training.
    """
    sizes: Tensor = torch.linalg.vector_norm(weight.detach(), 1, dim=tuple(range(1, weight.ndim)))
    return sizes / sizes.mean().clamp_min(torch.finfo(sizes.dtype).tiny)


def land(margins: Mapping[str, Tensor], floors: Mapping[str, int], cost: Cost, target: float) -> dict[str, Tensor]:
    """Return layer -> filters that stay, ascending: as many as the target allows, by one common offset of thresholds.

    The filters go in the order of their margins over their thresholds, whatever the layer, until the cost is no longer
    above the target: the last one that went is all that lies between them.

    Args:
        margins: layer -> relative size minus threshold, (filters,).
        floors: layer -> the filters that stay whatever their margins.
        cost: of any widths.
        target: share of the dense network's cost.

    Raises:
        BudgetError: even at the floors the network costs more.
    """
    goes = _order(margins, floors)
    widths = {name: len(margin) for name, margin in margins.items()}

    def after(count: int) -> float:
        left = dict(widths)
        for name, _ in goes[:count]:
            left[name] -= 1
        return cost(left)[0]

    if after(len(goes)) > target:
        raise BudgetError(
            f"with the fewest filters the network still costs {format_percent(after(len(goes)))} of the dense one, "
            f"its bypasses included, and {format_percent(target)} were asked for",
            remedy="ask for more, or choose a lighter bypass",
        )
    low, high = -1, len(goes)  # after(low) is above the target, after(high) is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if after(middle) <= target else (middle, high)
    gone: dict[str, list[int]] = {name: [] for name in margins}
    for name, index in goes[:high]:
        gone[name].append(index)
    return {name: _rest(margin, gone[name]) for name, margin in margins.items()}


def _order(margins: Mapping[str, Tensor], floors: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return (layer, filter) in the order in which they go; the best of each layer, as many as its floor, never do."""
    found = []
    for name, margin in margins.items():
        order = torch.argsort(margin, stable=True).tolist()
        found += [(float(margin[index]), name, index) for index in order[: len(order) - floors[name]]]
    found.sort(key=lambda one: one[0])
    return [(name, index) for _, name, index in found]


def _rest(margin: Tensor, gone: list[int]) -> Tensor:
    stays = torch.ones(len(margin), dtype=torch.bool, device=margin.device)
    stays[gone] = False
    return stays.nonzero().flatten()
