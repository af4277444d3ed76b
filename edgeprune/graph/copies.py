"""Copies of networks in which some tensors are others."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.errors import InputError


def copied(model: nn.Module, replaced: Mapping[str, Tensor]) -> nn.Module:
    """Return a deep copy of `model` in which the tensors of these names, and all other names of theirs, are replaced.

    Raises:
        InputError: the network holds something that can't be copied.
    """
    known = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    memo: dict[int, Any] = {
        id(known[name] if name in known else tensor_at(model, name)): tensor for name, tensor in replaced.items()
    }
    for module in model.modules():
        for value in vars(module).values():
            # What a hook computes before each call (torch.nn.utils.weight_norm), which torch refuses to copy.
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach())
            # A module has a dozen of these, and deepcopy is at its slowest on them.
            elif type(value) is OrderedDict and not value:
                memo[id(value)] = OrderedDict()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} can't be copied: {str(error).splitlines()[0]}",
            remedy="remove the hooks or handles that were attached to it, or load its weights into a new one",
        ) from error


def tensor_at(model: nn.Module, name: str) -> torch.Tensor:
    """Return the parameter or buffer of that name.

    Raises:
        InputError: there is none.
    """
    path, _, last = name.rpartition(".")
    try:
        found = getattr(model.get_submodule(path), last)
    except AttributeError:
        found = None
    if not isinstance(found, torch.Tensor):
        raise InputError(f"the network has no tensor {name!r}", remedy="use the network that the plan was made for")
    return found
