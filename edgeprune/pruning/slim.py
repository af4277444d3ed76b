"""Model + plan -> compact dense model, and the masked twin that proves it right."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeprune.errors import EdgePruneError, InputError, NumericsError
from edgeprune.graph.copies import copied, tensor_at
from edgeprune.graph.cuts import Cuts
from edgeprune.graph.inputs import call_with, eval_mode, find_module
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.sizes import set_sizes
from edgeprune.pruning.attributes import match_attributes
from edgeprune.pruning.removal import without_empty

TOLERANCE = 1e-4
"""Largest |compact - masked| / max |masked| that float32 rounding is allowed to explain."""


def slim(model: nn.Module, plan: WidthPlan, *, check: bool = True) -> nn.Module:
    """Return a compact copy of `model` with the channels that `plan` keeps; `model` is left alone.

    >>> import torch, edgeprune
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 4, 1))
    >>> plan = edgeprune.WidthPlan.uniform(edgeprune.trace(network, torch.zeros(1, 3, 5, 5)), keep=0.5)
    >>> small = edgeprune.slim(network, plan)
    >>> small[0].out_channels, small[1].in_channels
    (4, 4)
    >>> x = torch.randn(1, 3, 5, 5)
    >>> torch.allclose(small(x), edgeprune.masked(network, plan)(x), atol=1e-6)
    True

    Args:
        model: the network that the plan's graph was traced from.
        plan: what to keep.
        check: run the copy on the graph's example inputs, and compare it with the masked twin. Where the plan cuts
            groups that are inexact by nature the two differ, so that it only has to run.

    Raises:
        NumericsError: the compact network fails to run or its outputs differ from the masked twin's.
    """
    small = cut(model, plan.cuts)
    if check:
        checked(model, plan, small)
    return small


def checked(model: nn.Module, plan: WidthPlan, small: nn.Module) -> float | None:
    """Return how far a compact network is from the masked twin, see `slim_error`; None where the two may differ.

    Raises:
        NumericsError: the compact network fails to run or its outputs differ from the masked twin's.
    """
    if not plan.exact:
        run_on_examples(small, plan, torch.float32)
        return None
    difference = slim_error(model, plan, small)
    if not difference <= TOLERANCE:
        raise NumericsError(
            f"the compact network differs from the masked one by {difference:.2g} of the largest output",
            remedy="lock the group that breaks with --lock; edgeprune.verified(model, graph) finds it",
        )
    return difference


def cut(model: nn.Module, cuts: Cuts) -> nn.Module:
    """Return a copy of `model` whose tensors keep the entries in `cuts`, and whose modules know their new sizes.

    Dtype, device, requires_grad and train or eval state are kept; a tensor that has several names is one tensor still.

    Raises:
        InputError: a tensor is missing or of another shape, or the network can't be copied.
    """
    late = {name: dims for name, dims in cuts.tensors.items() if _will_appear(model, name, cuts)}
    now = {name: dims for name, dims in cuts.tensors.items() if name not in late}
    small = copied(model, {name: _sliced(tensor_at(model, name), dims, name) for name, dims in now.items()})
    set_sizes(small, cuts.attributes)
    for before, after in zip(model.modules(), small.modules(), strict=True):
        match_attributes(after, before)
    small = without_empty(small)
    return cut(small, Cuts(late)) if late else small


def masked(model: nn.Module, plan: WidthPlan) -> nn.Module:
    """Return a dense copy of `model` with all that the plan removes set to zero: it computes what the compact one does.

    Running statistics are left as they are: without its scale and shift a normalised channel is zero anyway.
    """
    replaced = {}
    for name, dims in plan.cuts.tensors.items():
        tensor = tensor_at(model, name)
        if not tensor.is_floating_point() or name.endswith((".running_mean", ".running_var")):
            continue
        data = tensor.detach().clone()
        for dim, kept in dims.items():
            gone = np.setdiff1d(np.arange(data.shape[dim]), kept, assume_unique=True)
            data.index_fill_(dim, torch.as_tensor(gone, device=data.device), 0)
        replaced[name] = _like(tensor, data)
    return copied(model, replaced)


def slim_error(model: nn.Module, plan: WidthPlan, small: nn.Module) -> float:
    """Return max |compact - masked| / max |masked| over the outputs on the graph's example inputs.

    Computed in float32. A larger difference than `TOLERANCE` is computed again in float64, where rounding, which a deep
    network may amplify, is a billion times smaller and a mistake is not.

    Raises:
        NumericsError: the compact network does not run.
    """
    twin = None
    error = float("inf")
    for dtype in (torch.float32, torch.float64):
        try:
            found = run_on_examples(small, plan, dtype)
            twin = twin or masked(model, plan)
            expected = run_on_examples(twin, plan, dtype)
        except EdgePruneError:
            if dtype == torch.float64:
                return error  # its code asks for float32
            raise
        error = max((relative_error(one, other) for one, other in zip(found, expected, strict=True)), default=0.0)
        if error <= TOLERANCE:
            break
    return error


def run_on_examples(model: nn.Module, plan: WidthPlan, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return the outputs on the graph's example inputs, computed in at least the precision `dtype`.

    Constant inputs (zeros that only give a shape) become random ones.

    Raises:
        NumericsError: the network does not run.
    """

    def lift(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: lift(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(lift(one) for one in value)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        value = value.to(torch.promote_types(value.dtype, dtype))
        constant = bool((value == value.flatten()[:1]).all())
        return torch.randn(value.shape, generator=_seeded(), dtype=value.dtype).to(value.device) if constant else value

    part = find_module(model, plan.graph.submodule) if plan.graph.submodule else model
    narrow = [one for one in (*part.parameters(), *part.buffers()) if one.is_floating_point()]
    if any(torch.promote_types(one.dtype, dtype) != one.dtype for one in narrow):
        part = copy.deepcopy(part).to(dtype)
    try:
        with torch.no_grad(), eval_mode(part):
            return flat_tensors(call_with(part, lift(plan.graph.example_inputs)))
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise NumericsError(
            f"the compact network does not run: {said[0]}",
            remedy="a size is written into the network's code; lock the module that it belongs to with --lock",
        ) from error


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def flat_tensors(outputs: Any) -> list[torch.Tensor]:
    """Return the tensors of a network's output: one, a list, a dict, or nested ones."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    parts: Iterable[Any] = ()
    if isinstance(outputs, Mapping):
        parts = outputs.values()
    elif isinstance(outputs, list | tuple):
        parts = outputs
    return [tensor for part in parts for tensor in flat_tensors(part)]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return max |found - expected| / max |expected|; infinite where the shapes differ or a value is not finite."""
    if found.shape != expected.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    difference = (found.double() - expected.double()).abs().max().item()
    scale = expected.double().abs().max().item()
    relative = difference / scale if scale else difference
    return relative if np.isfinite(relative) else float("inf")


def _will_appear(model: nn.Module, name: str, cuts: Cuts) -> bool:
    """Whether a tensor is the bias of a layer that has none, but gets one because the same cuts make it a constant."""
    path, _, last = name.rpartition(".")
    emptied = any(len(kept) == 0 for kept in cuts.tensors.get(f"{path}.weight", {}).values())
    return last == "bias" and emptied and getattr(model.get_submodule(path), last, None) is None


def _sliced(tensor: torch.Tensor, dims: Mapping[int, np.ndarray], name: str) -> torch.Tensor:
    data = tensor.detach()
    for dim, kept in dims.items():
        if dim >= data.ndim or len(kept) > data.shape[dim] or kept.max(initial=0) >= data.shape[dim]:
            raise InputError(
                f"{name} has shape {tuple(tensor.shape)}, which does not fit the plan",
                remedy="use the network that the plan was made for",
            )
        data = data.index_select(dim, torch.as_tensor(kept, device=data.device))
    return _like(tensor, data)


def _like(tensor: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    """Return `data` as what `tensor` is: a parameter, frozen or not, or a buffer."""
    return nn.Parameter(data, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
