"""What LAPP builds into a network and takes out of it again: bypasses, masks behind norms, filters."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.graph.cuts import Cuts
from edgeprune.graph.trace import trace
from edgeprune.training.bypass import Bypassed, add_bypasses, bypassed
from edgeprune.training.lapp_units import Unit, prunable
from edgeprune.training.thresholds import masked


def with_bypasses(model: nn.Module, example_inputs: Any, kind: str) -> nn.Module:
    """Return a copy of the network as LAPP trains it, bypasses drawn anyhow: its layers' costs can be measured."""
    wide = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        add_bypasses(wide, prunable(wide, trace(wide, example_inputs), kind), kind)
    return wide


def rebuild(model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
    """Return the network as it was when a training with LAPP ended, before any cuts; `model` is left alone.

    Args:
        model: what the network's code builds, with any weights; the result's are as arbitrary.
        structure: of `Lapp.structure`.
    """
    built = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        add_bypasses(built, tuple(structure["layers"]), structure["bypass"])
    remove_filters(built, structure["filters"])
    return built


def remove_filters(model: nn.Module, kept: Mapping[str, Sequence[int]]) -> Cuts:
    """Keep these filters of each layer alone, in place; return what that took from which tensors."""
    layers = bypassed(model)
    for name, indices in kept.items():
        conv = layers[name].conv
        assert conv is not None
        layers[name].narrow(torch.tensor(indices, dtype=torch.long, device=conv.weight.device))
    return Cuts(
        {f"{name}.conv.{what}": {0: np.asarray(one)} for name, one in kept.items() for what in ("weight", "bias")}
    )


def mask_norms(model: nn.Module, units: Iterable[Unit]) -> None:
    """Mask the norms' output channels by the threshold of the layer that makes them, in place."""
    for unit in units:
        layer = model.get_submodule(unit.layer)
        assert isinstance(layer, Bypassed)
        for norm in unit.norms:
            model.get_submodule(norm).register_forward_hook(_Masking(layer))


def unmask_norms(model: nn.Module, units: Iterable[Unit]) -> None:
    """Undo `mask_norms`."""
    for norm in (model.get_submodule(name) for unit in units for name in unit.norms):
        for key, hook in list(norm._forward_hooks.items()):
            if isinstance(hook, _Masking):
                del norm._forward_hooks[key]


class _Masking:
    """Hook that masks a norm's output channels."""

    def __init__(self, layer: Bypassed) -> None:
        self.layer = layer

    def __call__(self, norm: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return masked(output, self.layer.mask(), dim=1)
