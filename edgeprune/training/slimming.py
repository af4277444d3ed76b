"""Network Slimming: an L1 penalty on the scales of BatchNorms, which RNI is compared with.

Liu et al., "Learning Efficient Convolutional Networks through Network Slimming" (2017, arXiv 1708.06519). It presses on
every scale alike, important or not. Parts of any training loop, as those of `rni`; the network stays an ordinary one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.errors import InputError


def penalty(model: nn.Module) -> Tensor:
    """Return the sum of |scale| over all channels of all BatchNorms, to be added to the loss.

    Raises:
        InputError: no BatchNorm has scales.
    """
    return torch.cat([norm.weight.flatten() for _, norm in _scaled(model)]).abs().sum()


def importances(model: nn.Module) -> dict[str, Tensor]:
    """Return BatchNorm -> |scale|, (channels,); not part of any gradient.

    Raises:
        InputError: no BatchNorm has scales.
    """
    return {name: norm.weight.detach().abs() for name, norm in _scaled(model)}


def _scaled(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.weight is not None
    ]
    if not found:
        raise InputError(
            f"{type(model).__name__} has no BatchNorm with scales, and their sizes are what slimming trains",
            remedy="use a network with BatchNorm, or another method",
        )
    return found
