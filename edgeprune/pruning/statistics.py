"""BatchNorm's running statistics, measured again: after a cut the old ones are of a network that is gone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.errors import InputError


def reestimate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace the running mean and variance of every BatchNorm by their averages over the batches, in place.

    Every batch counts the same (momentum None: torch's cumulative average). While this runs only the BatchNorms are
    in training mode, so that dropout changes nothing; all modes and momenta are put back afterwards.

    Args:
        model: the network; batches are moved to where its parameters are.
        batches: (images (N, C, ...), labels) pairs; the labels are not looked at.

    Raises:
        InputError: there is no batch; the statistics are then as they were.
    """
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    seen = 0
    model.eval()
    try:
        for images, _ in batches:
            if not seen:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None
                    norm.train()
            with torch.no_grad():
                model(images.to(device))
            seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
    if not seen:
        raise InputError("no images to measure BatchNorm's statistics on", remedy="give at least one batch")
