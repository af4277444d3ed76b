"""BatchNorm folded into the convolution or linear layer before or behind it: the same function, one layer fewer."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Exact classes, no subclasses: timm's StdConv2d standardises its weight, and its BatchNormAct2d holds an activation.
_FOLDED: tuple[type[nn.Module], ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def fuse(model: nn.Module, foldable: Iterable[tuple[str, str]]) -> nn.Module:
    """Return a copy of `model`, in eval mode, whose BatchNorms are folded away; `model` itself is left as it is.

    y = gamma * (W x + b - mean) / sqrt(var + eps) + beta is again a convolution, with the weight W * s and the bias
    (b - mean) * s + beta, where s = gamma / sqrt(var + eps) (one number an output channel). Computed in float64. Before
    a layer that pads nothing, W (s x + t) + b with t = beta - mean * s is W s x + (b + W t).

    Args:
        model: any network.
        foldable: (module, BatchNorm) or (BatchNorm, module) pairs of names where the second's only input is the
            first's output, nothing else reads that output and both are called once: `ChannelGraph.foldable`. The pairs
            are trusted; a pair whose classes cannot be folded (a subclass, weights under a parametrization, no running
            statistics) is left alone.
    """
    fused = copy.deepcopy(model).eval()
    for first, second in foldable:
        one, other = fused.get_submodule(first), fused.get_submodule(second)
        if _can_fold(one, other, "out"):
            _fold_back(one, other)
            fused.set_submodule(second, nn.Identity())
        elif _can_fold(other, one, "in"):
            _fold_on(other, one)
            fused.set_submodule(first, nn.Identity())
    return fused.eval()


def _can_fold(layer: nn.Module, norm: nn.Module, side: str) -> bool:
    if type(layer) not in _FOLDED or type(norm) not in _NORMS or norm.running_mean is None:
        return False
    channels = getattr(layer, f"{side}_{'features' if isinstance(layer, nn.Linear) else 'channels'}")
    # A weight under a parametrization (weight norm, spectral norm) is computed anew at each call.
    return "weight" in layer._parameters and channels == norm.num_features


@torch.no_grad()
def _fold_back(layer: nn.Module, norm: nn.Module) -> None:
    """Give `layer` the weight and bias with which it does what `norm` did after it."""
    scale, shift = _affine(norm)
    bias = shift if layer.bias is None else shift + _tensor(layer.bias).double() * scale
    _replace(layer, _scaled(layer, _tensor(layer.weight).double(), scale), bias)


@torch.no_grad()
def _fold_on(layer: nn.Module, norm: nn.Module) -> None:
    """Give `layer` the weight and bias with which it does what `norm` did before it."""
    scale, shift = _affine(norm)
    weight = _tensor(layer.weight).double()
    groups = 1 if isinstance(layer, nn.Linear) else int(_number(layer.groups))
    # Convolution group g makes the g-th run of outputs from the g-th run of inputs.
    own = (groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    grouped = weight.view(groups, -1, *weight.shape[1:])
    bias = (grouped * shift.view(own)).flatten(2).sum(2).flatten()
    if layer.bias is not None:
        bias = bias + _tensor(layer.bias).double()
    _replace(layer, (grouped * scale.view(own)).view_as(weight), bias)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift that a BatchNorm is in eval mode, in float64."""
    mean, variance = (_tensor(value).double() for value in (norm.running_mean, norm.running_var))
    scale = torch.rsqrt(variance + _number(norm.eps))
    if norm.weight is not None:
        scale = scale * _tensor(norm.weight).double()
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + _tensor(norm.bias).double()


def _replace(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Set new parameters, because another layer may share the old ones."""
    own = _tensor(layer.weight)
    layer.weight = nn.Parameter(weight.to(own), own.requires_grad)
    layer.bias = nn.Parameter(bias.to(own), own.requires_grad)


def _scaled(layer: nn.Module, weight: Tensor, scale: Tensor) -> Tensor:
    """Multiply each output channel of `weight` by its entry of `scale`."""
    if not isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return weight * scale.view(-1, *[1] * (weight.ndim - 1))
    # Its weight is (in, out / groups, ...): convolution group g makes the g-th run of outputs from the g-th of inputs.
    inputs, outputs, *kernel = weight.shape
    groups = int(layer.groups)
    grouped = weight.view(groups, inputs // groups, outputs, *kernel)
    return (grouped * scale.view(groups, 1, outputs, *[1] * len(kernel))).view(weight.shape)


def _number(value: object) -> float:
    assert isinstance(value, float | int)
    return value


def _tensor(value: Tensor | nn.Module) -> Tensor:
    assert isinstance(value, Tensor)
    return value
