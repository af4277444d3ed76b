"""First and second moments of what a layer reads and computes, over sampled positions of images.

A convolution is a matrix product at every position: its weight, as (outputs, inputs x kernel positions), times the
patch under the kernel. All that least squares needs of the images are the means and covariances of patches and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from edgeprune.graph.channels import ChannelGraph

POSITIONS = 32
"""So many positions of each image are looked at; all of them where there are fewer."""

WIDEST = 8192
"""A layer that reads more features than this is left alone: its covariance would not fit."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


_FORWARDS = {kind: kind.forward for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}


def is_plain(module: nn.Module) -> bool:
    """Say whether a linear layer or a convolution computes what its class in torch does, with a weight of its own.

    Subclasses may pad by themselves (timm's Conv2dSame) or make another weight at each call (weight norm, timm's
    StdConv2d).
    """
    own = any(isinstance(module, kind) and type(module).forward is forward for kind, forward in _FORWARDS.items())
    return own and "weight" in module._parameters and not is_parametrized(module)


def is_product(module: nn.Module) -> bool:
    """Say whether a layer is one matrix product at every position, of a width that can be handled."""
    if not is_plain(module):
        return False
    if isinstance(module, Convolution):
        return module.groups == 1 and module.padding_mode == "zeros" and features(module) <= WIDEST
    return isinstance(module, nn.Linear) and module.in_features <= WIDEST


def layer_modules(model: nn.Module, graph: ChannelGraph) -> list[str]:
    """Return the modules that are layers of the graph and run once, in the order of execution."""
    modules = {name for name, _ in model.named_modules()}
    again = {layer.name.partition("#")[0] for layer in graph.layers if "#" in layer.name}
    names = dict.fromkeys(layer.name for layer in graph.layers)
    return [name for name in names if name in modules and name not in again]


def features(module: nn.Module) -> int:
    """Return how many numbers a product reads for one output."""
    assert isinstance(module.weight, Tensor)
    return module.weight[0].numel()


def matrix(module: nn.Module) -> Tensor:
    """Return the weight of a product as (outputs, features), in float64 on the CPU."""
    assert isinstance(module.weight, Tensor)
    return module.weight.detach().flatten(1).double().cpu()


def sampled(module: nn.Module, outputs: Tensor, generator: torch.Generator, positions: int = POSITIONS) -> Any:
    """Return so many positions an image of a product's outputs, in the form that `patches` and `outputs_at` take."""
    if isinstance(module, nn.Linear):
        return _some(outputs.shape[:-1].numel(), positions * len(outputs), generator)
    counts = outputs.shape[2:]
    return torch.unravel_index(_some(counts.numel(), positions, generator), counts)


def patches(module: nn.Module, inputs: Tensor, at: Any) -> Tensor:
    """Return what a product reads for its outputs `at` these positions, shape (samples, features)."""
    if isinstance(module, nn.Linear):
        return inputs.flatten(0, -2)[at]
    assert isinstance(module, Convolution)
    windows = F.pad(inputs, module._reversed_padding_repeated_twice)
    for dim, (size, step, gap) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True), 2):
        windows = windows.unfold(dim, (size - 1) * gap + 1, step)[..., ::gap]
    found = windows[:, :, *at]  # (images, channels, positions, *kernel)
    return found.movedim(2, 1).flatten(2).flatten(0, 1)


def outputs_at(module: nn.Module, outputs: Tensor, at: Any) -> Tensor:
    """Return a product's outputs at these positions, shape (samples, outputs)."""
    if isinstance(module, nn.Linear):
        return outputs.flatten(0, -2)[at]
    return outputs[:, :, *at].movedim(2, 1).flatten(0, 1)


def _some(count: int, at_most: int, generator: torch.Generator) -> Tensor:
    if count <= at_most:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:at_most]


@dataclass
class Moments:
    """Sums over samples of x (features) and of y (outputs), in float64 on the CPU."""

    count: int = 0
    x: Tensor | float = 0.0
    xx: Tensor | float = 0.0
    y: Tensor | float = 0.0
    yx: Tensor | float = 0.0

    def add(self, x: Tensor, y: Tensor | None = None) -> None:
        """Count samples `x` (samples, features) and, where they are wanted, `y` (samples, outputs)."""
        x = x if x.dtype == torch.float64 else x.float()
        self.count += len(x)
        self.x = self.x + x.double().sum(0).cpu()
        self.xx = self.xx + (x.T @ x).double().cpu()
        if y is not None:
            y = y.to(x.dtype)
            self.y = self.y + y.double().sum(0).cpu()
            self.yx = self.yx + (y.T @ x).double().cpu()

    def covariance(self, centred: bool = True) -> Tensor:
        """Return the covariance of the features; the second moment where not `centred`."""
        mean = torch.as_tensor(self.x) / self.count
        return torch.as_tensor(self.xx) / self.count - (torch.outer(mean, mean) if centred else 0.0)

    def cross(self, centred: bool = True) -> Tensor:
        """Return the covariance of outputs with features, shape (outputs, features)."""
        x, y = torch.as_tensor(self.x) / self.count, torch.as_tensor(self.y) / self.count
        return torch.as_tensor(self.yx) / self.count - (torch.outer(y, x) if centred else 0.0)


def ridge(covariance: Tensor, share: float = 1e-3) -> Tensor:
    """Return the covariance with `share` of its mean diagonal added, so that it has an inverse."""
    size = len(covariance)
    level = share * float(covariance.diagonal().mean()) + 1e-12
    return covariance + level * torch.eye(size, dtype=covariance.dtype)
