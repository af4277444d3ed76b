"""RNI, Receding Neuron Importances: BatchNorms with bounded scales, and a penalty on the scales that are low already.

Suteu and Guo, "Receding Neuron Importances for Structured Pruning" (2022, arXiv 2204.06404). As parts of any loop:

    model = rni.convert(model)
    optimizer = torch.optim.SGD(rni.parameter_groups(model, 0.1, 1e-4), momentum=0.9, nesterov=True)
    loss = cross_entropy + 1e-3 * rni.penalty(model, shift=3.0)
    ...
    model = rni.fold(model)  # ordinary BatchNorms again; their scales are the importances

The bounded form is y = sigmoid(g) * (x - mean) / sqrt(var + eps) without a shift, and sigmoid(g) is the channel's
importance. The penalty is R = sum of s * (1 - ln s) with s = sigmoid(g + b), over all channels of all layers. Its
gradient by g, -ln(s) * s * (1 - s), vanishes at both ends and is largest (0.2603) at s = 0.2356: what is important is
left alone, and what the task loss has let down recedes. b moves that zone: b = 3 has it at an importance of 0.015.

The paper's settings: 1e-3 and b = 3 for VGG-16, 1e-4 and b = 0 for ResNet-56; g learns ten times as fast as the rest
and never decays; the penalty is on from the first step to the last.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from edgeprune.errors import InputError
from edgeprune.training.groups import parameter_groups as plain_groups

RATE_FACTOR = 10.0
"""How much faster g learns than the rest."""

HIGHEST = 0.98
"""Importance of the largest scale of a trained network: beyond it sigmoid is too flat to learn."""

_LOWEST = 1e-6


class Bounded(nn.Module):
    """Scale of a BatchNorm: gain * sigmoid(g), with a gain that does not learn.

    The paper's gain is 1. For a trained network it holds what sigmoid can't: the sign, and sizes above 1.
    """

    gain: Tensor

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)

    def forward(self, g: Tensor) -> Tensor:
        return self.gain * torch.sigmoid(g)

    def right_inverse(self, scale: Tensor) -> Tensor:
        """Return the g that gives `scale`; torch asks for it when the scale is bounded."""
        return torch.logit((scale / self.gain).clamp(_LOWEST, 1 - _LOWEST))


def convert(model: nn.Module, *, trained: bool = False, generator: torch.Generator | None = None) -> nn.Module:
    """Return a copy of `model` whose BatchNorms (1d, 2d, 3d, and their subclasses) have the bounded form.

    From scratch, as the paper has it: g is drawn from N(0, 1) and the shifts go.

    From trained weights (`trained=True`; not in the paper) the network computes what it did: with the largest size of
    a scale in the whole network, M, each scale becomes gain * sigmoid(g), gain = sign * M / 0.98. One M for all layers,
    so that importances of different layers compare as the scales did. Two things have no bounded form. A scale under a
    millionth of M becomes that millionth, since sigmoid has no zero. And a shift can't be moved behind the activation,
    so that it stays, as an ordinary parameter: a channel that has receded still adds activation(shift), which is lost
    with it when it is cut.

    Where all scales lie in (0, 1) and no shift is left, the weights are those of a folded network, and go back to
    just what they were: gain 1, no shift.

    A module in several places is converted once. A BatchNorm without scales stays as it is.

    Args:
        model: any network; left alone.
        trained: keep what the network computes.
        generator: what g is drawn with; torch's global one by default.

    Raises:
        InputError: no BatchNorm has scales, or the network is converted already.
    """
    if next(_bounded(model), None) is not None:
        raise InputError("the network's BatchNorms are bounded already", remedy="convert it once")
    converted = copy.deepcopy(model)
    norms = [one for one in converted.modules() if isinstance(one, _BatchNorm) and one.weight is not None]
    if not norms:
        raise InputError(
            f"{type(model).__name__} has no BatchNorm with scales, and their sizes are what RNI trains",
            remedy="use a network with BatchNorm, or another method",
        )
    scales = [norm.weight.detach() for norm in norms]
    largest = max(float(scale.abs().max()) for scale in scales) or 1.0
    folded = trained and all(map(_is_folded, norms))
    for norm, scale in zip(norms, scales, strict=True):
        sign = torch.where(scale < 0, -1.0, 1.0).to(scale)
        gain = sign * (largest / HIGHEST) if trained and not folded else torch.ones_like(scale)
        parametrize.register_parametrization(norm, "weight", Bounded(gain))
        if not trained:
            _g(norm).data.copy_(torch.empty(scale.shape).normal_(generator=generator))
        if not trained or folded:
            norm.register_parameter("bias", None)
    return converted


def _is_folded(norm: _BatchNorm) -> bool:
    return bool(((norm.weight > 0) & (norm.weight < 1)).all()) and (norm.bias is None or not bool(norm.bias.any()))


def fold(model: nn.Module) -> nn.Module:
    """Return a copy of a converted network with ordinary BatchNorms, which computes the same.

    The scale is what the bounded form gave, the shift zero where there was none: names and shapes are those of the
    network before `convert`.
    """
    folded = copy.deepcopy(model)
    for _, norm in list(_bounded(folded)):
        learns, scale, shift = _g(norm).requires_grad, norm.weight.detach().clone(), norm.bias
        # Not remove_parametrizations: a copy shares its class with the original, which would lose its weight by it.
        norm.__class__ = type(norm).__bases__[0]
        del norm.parametrizations, norm.bias
        norm.weight = nn.Parameter(scale, learns)
        norm.bias = shift if shift is not None else nn.Parameter(torch.zeros_like(scale), learns)
    return folded


def penalty(model: nn.Module, shift: float = 0.0) -> Tensor:
    """Return R, the sum over all channels of s * (1 - ln s) with s = sigmoid(g + shift), to be added to the loss.

    A sum, so that its weight is per channel and does not depend on the network's width.

    Raises:
        InputError: the network was not converted.
    """
    raised = torch.cat([_g(norm).flatten() for _, norm in _required(model)]) + shift
    return (torch.sigmoid(raised) * (1 - F.logsigmoid(raised))).sum()


def importances(model: nn.Module) -> dict[str, Tensor]:
    """Return BatchNorm -> sigmoid(g), (channels,), of a converted network; not part of any gradient.

    Raises:
        InputError: the network was not converted.
    """
    return {name: torch.sigmoid(_g(norm).detach()) for name, norm in _required(model)}


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, *, decay_vectors: bool = False
) -> list[dict[str, Any]]:
    """Return an optimizer's groups: g learns ten times as fast as the rest and never decays."""
    special = [_g(norm) for _, norm in _required(model)]
    learned = [one for one in special if one.requires_grad]
    return plain_groups(
        model, learning_rate, weight_decay, special=learned, factor=RATE_FACTOR, decay_vectors=decay_vectors
    )


def _bounded(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        norm: Any = module
        if parametrize.is_parametrized(norm, "weight") and isinstance(norm.parametrizations.weight[0], Bounded):
            yield name, norm


def _required(model: nn.Module) -> list[tuple[str, Any]]:
    found = list(_bounded(model))
    if not found:
        raise InputError("no BatchNorm of the network is bounded", remedy="use what rni.convert returned")
    return found


def _g(norm: Any) -> nn.Parameter:
    parameter: nn.Parameter = norm.parametrizations.weight.original
    return parameter
