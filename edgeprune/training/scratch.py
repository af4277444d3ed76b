"""A network as if it had never been trained."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from edgeprune.errors import InputError


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
                    remedy="name a function that returns the network without trained weights, or --start trained",
                )
    return fresh
