"""BatchNorm folded into the convolution or linear layer before it: the same function, one layer fewer."""

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
    (b - mean) * s + beta, where s = gamma / sqrt(var + eps) (one number an output channel). Computed in float64.

    Args:
        model: any network.
        foldable: (module, BatchNorm) pairs of names where the BatchNorm's only input is the module's output, nothing
            else reads that output and both are called once: `ChannelGraph.foldable`. The pairs are trusted; a pair
            whose classes cannot be folded (a subclass, weights under a parametrization, no running statistics) is
            left alone.
    """
    fused = copy.deepcopy(model).eval()
    for before, norm in foldable:
        layer, batch_norm = fused.get_submodule(before), fused.get_submodule(norm)
        if not _can_fold(layer, batch_norm):
            continue
        _fold(layer, batch_norm)
        fused.set_submodule(norm, nn.Identity())
    return fused.eval()


def _can_fold(layer: nn.Module, norm: nn.Module) -> bool:
    if type(layer) not in _FOLDED or type(norm) not in _NORMS or norm.running_mean is None:
        return False
    # A weight under a parametrization (weight norm, spectral norm) is computed anew at each call.
    return "weight" in layer._parameters and _output_channels(layer) == norm.num_features


def _output_channels(layer: nn.Module) -> object:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Give `layer` the weight and bias with which it does what `norm` did after it.

    New parameters are made, because another layer may share the old ones.
    """
    own, mean, variance = (_tensor(value) for value in (layer.weight, norm.running_mean, norm.running_var))
    scale = torch.rsqrt(variance.double() + _number(norm.eps))
    if norm.weight is not None:
        scale = scale * _tensor(norm.weight).double()
    bias = -mean.double() * scale
    if layer.bias is not None:
        bias = bias + _tensor(layer.bias).double() * scale
    if norm.bias is not None:
        bias = bias + _tensor(norm.bias).double()
    layer.weight = nn.Parameter(_scaled(layer, own.double(), scale).to(own), own.requires_grad)
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
    assert isinstance(value, float)
    return value


def _tensor(value: Tensor | nn.Module) -> Tensor:
    assert isinstance(value, Tensor)
    return value
