"""A network as if it had never been trained."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from edgeprune.errors import InputError


def was_trained(model: nn.Module) -> bool:
    """Whether a BatchNorm of `model` has other statistics than those that it is made with."""
    return any(_has_seen_data(one) for one in _norms(model))


def was_never_trained(model: nn.Module) -> bool:
    """Whether `model` has BatchNorms, and all have the statistics that they are made with."""
    norms = _norms(model)
    return bool(norms) and not any(_has_seen_data(one) for one in norms)


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    found = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    return [one for one in found if one.running_mean is not None and one.running_var is not None]


def _has_seen_data(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and (bool(mean.any()) or bool((variance != 1).any()))


def drawn_anew(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of `model` whose weights and statistics are initialised again, as its layers do when they are made.

    Raises:
        InputError: a layer with weights has no `reset_parameters`.
    """
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in fresh.named_modules():
            own: Any = module
            if hasattr(own, "reset_parameters"):
                own.reset_parameters()
            elif next(module.parameters(recurse=False), None) is not None:
                raise InputError(
                    f"{name or type(model).__name__} can't be drawn anew: it has weights and no reset_parameters",
                    remedy="name a function that returns the network without trained weights, and leave --start out",
                )
    return fresh
