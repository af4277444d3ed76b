"""Model + plan -> compact dense model, and the masked twin that proves it right."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeprune.errors import InputError, NumericsError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import eval_mode

Cuts = Mapping[str, Mapping[int, np.ndarray]]

TOLERANCE = 1e-4
"""Largest |compact - masked| / max |masked| that float32 rounding is allowed to explain."""


def slim(model: nn.Module, plan: WidthPlan, *, check: bool = True) -> nn.Module:
    """Return a compact copy of `model` with the channels that `plan` keeps; `model` is left alone.

    Args:
        model: the network that the plan's graph was traced from.
        plan: what to keep.
        check: run the copy against the masked twin on the graph's example inputs.

    Raises:
        NumericsError: the compact network fails to run or its outputs differ from the masked twin's.
    """
    small = cut(model, plan.cuts)
    if check:
        difference = slim_error(model, plan, small)
        if not difference <= TOLERANCE:
            raise NumericsError(
                f"the compact network differs from the masked one by {difference:.2g} of the largest output",
                remedy="lock the group that breaks with --lock",
            )
    return small


def cut(model: nn.Module, cuts: Cuts) -> nn.Module:
    """Return a copy of `model` whose tensors keep the entries in `cuts` (tensor -> dimension -> entries).

    Raises:
        InputError: a tensor is missing.
    """
    small = copy.deepcopy(model)
    owners: dict[str, list[tuple[nn.Module, str]]] = {}
    modules = dict(small.named_modules(remove_duplicate=False))
    before = {path: _output_size(module) for path, module in modules.items()}
    done: dict[int, torch.Tensor] = {}
    for tensor, dims in cuts.items():
        path, _, name = tensor.rpartition(".")
        module = modules.get(path)
        old = getattr(module, name, None)
        if module is None or not isinstance(old, torch.Tensor):
            raise InputError(f"the network has no tensor {tensor!r}", remedy="use the network that the plan was made for")
        new = done.get(id(old))
        if new is None:
            new = _sliced(old, dims)
            done[id(old)] = done[id(new)] = new
        setattr(module, name, new)
        owners.setdefault(path, []).append((module, name))
    for path in owners:
        _match_attributes(modules[path], before[path])
    return small


def masked(model: nn.Module, plan: WidthPlan) -> nn.Module:
    """Return a dense copy of `model` with every entry that the plan removes set to zero: same outputs as the compact one.

    Running statistics are left as they are: without its scale and shift a normalised channel is zero anyway.
    """
    twin = copy.deepcopy(model)
    parameters = dict(twin.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for tensor, dims in plan.cuts.items():
            if tensor not in parameters:
                continue
            for dim, kept in dims.items():
                gone = np.setdiff1d(np.arange(plan.graph.shapes[tensor][dim]), kept, assume_unique=True)
                index = torch.as_tensor(gone, device=parameters[tensor].device)
                parameters[tensor].index_fill_(dim, index, 0)
    return twin


def slim_error(model: nn.Module, plan: WidthPlan, small: nn.Module) -> float:
    """Return max |compact - masked| / max |masked| over the outputs on the graph's example inputs.

    Raises:
        NumericsError: the compact network does not run.
    """
    inputs = plan.graph.example_inputs
    twin = masked(model, plan)
    with torch.no_grad(), eval_mode(twin), eval_mode(small):
        expected = flat_tensors(twin(*inputs))
        try:
            found = flat_tensors(small(*inputs))
        except Exception as error:
            raise NumericsError(
                f"the compact network does not run: {str(error).splitlines()[0]}",
                remedy="a size is written into the network's code; lock the module that it belongs to with --lock",
            ) from error
    return max(relative_error(one, other) for one, other in zip(found, expected, strict=True))


def flat_tensors(outputs: Any) -> list[torch.Tensor]:
    """Return the tensors of a network's output: one, a list, a dict, or nested ones."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, Mapping) else outputs if isinstance(outputs, list | tuple) else []
    return [tensor for part in parts for tensor in flat_tensors(part)]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return max |found - expected| / max |expected|; infinite where the shapes differ or a value is not finite."""
    if found.shape != expected.shape:
        return float("inf")
    difference = (found.double() - expected.double()).abs().max().item()
    scale = expected.double().abs().max().item()
    relative = difference / scale if scale else difference
    return relative if np.isfinite(relative) else float("inf")


def _sliced(tensor: torch.Tensor, dims: Mapping[int, np.ndarray]) -> torch.Tensor:
    data = tensor.detach()
    for dim, kept in dims.items():
        data = data.index_select(dim, torch.as_tensor(kept, device=data.device))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data.clone(), requires_grad=tensor.requires_grad)
    return data.clone()


def _output_size(module: nn.Module) -> int:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or not weight.ndim:
        return 0
    return weight.shape[0]


def _match_attributes(module: nn.Module, before: int) -> None:
    """Set the attributes of a module that repeat the size of its tensors."""
    for kind, match in _ATTRIBUTES.items():
        if isinstance(module, kind):
            match(module, before)
            return


def _match_conv(module: nn.Module, before: int) -> None:
    conv: Any = module
    rows, columns = conv.weight.shape[:2]
    if conv.groups > 1:
        conv.groups = conv.groups * rows // before
    conv.in_channels, conv.out_channels = (
        (rows, columns * conv.groups) if conv.transposed else (columns * conv.groups, rows)
    )


def _match_linear(module: nn.Module, before: int) -> None:
    linear: Any = module
    linear.out_features, linear.in_features = linear.weight.shape


def _match_norm(module: nn.Module, before: int) -> None:
    norm: Any = module
    sized = norm.weight if norm.weight is not None else norm.running_mean
    norm.num_features = sized.shape[0]


def _match_layer_norm(module: nn.Module, before: int) -> None:
    norm: Any = module
    norm.normalized_shape = tuple(norm.weight.shape)


def _match_group_norm(module: nn.Module, before: int) -> None:
    norm: Any = module
    norm.num_groups = norm.num_groups * norm.weight.shape[0] // before
    norm.num_channels = norm.weight.shape[0]


def _match_prelu(module: nn.Module, before: int) -> None:
    prelu: Any = module
    prelu.num_parameters = prelu.weight.shape[0]


_ATTRIBUTES: dict[type[nn.Module], Callable[[nn.Module, int], None]] = {
    nn.modules.conv._ConvNd: _match_conv,
    nn.Linear: _match_linear,
    nn.modules.batchnorm._NormBase: _match_norm,
    nn.LayerNorm: _match_layer_norm,
    nn.GroupNorm: _match_group_norm,
    nn.PReLU: _match_prelu,
}
