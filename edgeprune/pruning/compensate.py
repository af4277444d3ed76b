"""Recovery without training: each layer of the compact network is fitted to what it computed in the dense one.

A layer that reads fewer channels cannot compute what it did, but what is left of its input says much about what is
gone. In the order of execution, each layer's weight becomes the least-squares solution of

    min over W of  E |y - W x|^2,   x what it reads in the compact network, y what it computed in the dense one

so it makes up for its own lost inputs and for what the layers before it still get wrong. The expectation is over
unlabelled images and sampled positions; a bias takes the means, where the layer has one or BatchNorm follows.
(Channel Pruning, He et al. 2017, solves it layer by layer; here with the inputs of the compact network, and through
residuals and concatenations, since only what a layer reads and computes is looked at.)
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import eval_mode
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.moments import (
    Enough,
    Moments,
    is_product,
    layer_modules,
    matrix,
    outputs_at,
    ridge,
    rows,
    watched,
)
from edgeprune.pruning.removal import Constant

WORK = 4e12
"""Multiply-accumulates that all passes may take; where one layer at a time takes more, several share a pass. By work
and not by the clock, so that the same seed gives the same weights on a slower day."""


def compensate(
    small: nn.Module,
    model: nn.Module,
    plan: WidthPlan,
    images: Sequence[Tensor],
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> None:
    """Fit the layers of `small`, in place, to what they computed in `model`; BatchNorm takes up their means.

    Layers before the first cut compute what they always did and stay as they are; so do layers that are no plain matrix
    product (grouped and transposed convolutions), share their weight, or run more than once.

    Args:
        small: the compact network.
        model: the dense one; left alone.
        plan: how the one was cut from the other.
        images: batches (N, C, ...), unlabelled, where the networks are.
        seed: of the positions that are sampled.
        progress: where to show it.
    """
    kept = {name: dims[0] for name, dims in plan.cuts.tensors.items() if name.endswith(".weight") and 0 in dims}
    names = _reached(plan, small)
    with eval_mode(model), eval_mode(small), torch.no_grad(), progress.step("compensating", len(names)) as step:
        norms = dict(plan.graph.foldable)
        for chunk in _chunks(names, plan.graph, sum(map(len, images))):
            found = _moments(chunk, small, model, kept, images, seed)
            for name, moments in found.items():
                norm = small.get_submodule(norms[name]) if name in norms else None
                _fit(small.get_submodule(name), norm, moments)
            step.advance(len(chunk))


def _reached(plan: WidthPlan, small: nn.Module) -> list[str]:
    """Return the layers, in the order of execution, from the first that reads a cut input on."""
    order = layer_modules(small, plan.graph)
    first = next((at for at, name in enumerate(order) if 1 in plan.cuts.tensors.get(f"{name}.weight", {})), len(order))
    modules = {name: small.get_submodule(name) for name in order[first:]}
    found = {name: module for name, module in modules.items() if isinstance(module, Constant) or is_product(module)}
    shared = Counter(id(_parameter(module)) for module in found.values())
    return [name for name, module in found.items() if shared[id(_parameter(module))] == 1]


def _parameter(module: nn.Module) -> object:
    return module.bias if isinstance(module, Constant) else module.weight


def _chunks(names: Sequence[str], graph: ChannelGraph, images: int) -> list[Sequence[str]]:
    """Return the layers in as many chunks as passes are allowed; one pass runs both networks, half-way on average."""
    passes = max(1, min(len(names), int(WORK / (graph.macs() * images))))
    return [chunk.tolist() for chunk in np.array_split(np.array(names, dtype=object), passes) if len(chunk)]


def _moments(
    names: Sequence[str],
    small: nn.Module,
    model: nn.Module,
    kept: Mapping[str, np.ndarray],
    images: Sequence[Tensor],
    seed: int,
) -> dict[str, Moments]:
    """Return what the layers read in `small` and computed in `model`; layers that run more than once are left out."""
    found = {name: Moments() for name in names}
    generator = torch.Generator().manual_seed(seed)
    for batch in images:
        runs = []
        for network in (small, model):
            with watched(network, names, stop_after=names[-1]) as seen, contextlib.suppress(Enough):
                network(batch)
            runs.append(seen)
        for name in list(found):
            own, dense = (seen[name] for seen in runs)
            if len(own.inputs) != 1 or len(dense.outputs) != 1:
                del found[name]
                continue
            module = small.get_submodule(name)
            dense_layer = model.get_submodule(name)
            x, at = rows(dense_layer if isinstance(module, Constant) else module, own.inputs[0], generator)
            y = outputs_at(dense_layer, dense.outputs[0], at)
            stay = kept.get(f"{name}.weight")
            found[name].add(x, y if stay is None else y[:, torch.from_numpy(stay)])
    return found


def _fit(module: nn.Module, norm: nn.Module | None, moments: Moments) -> None:
    """Set the weight to the least-squares solution; what takes up the mean is the bias, or the BatchNorm behind.

    Where there is neither, the solution is the one through the origin. A layer that reads nothing gives the mean.
    """
    x, y = torch.as_tensor(moments.x) / moments.count, torch.as_tensor(moments.y) / moments.count
    if isinstance(module, Constant):
        module.bias.data.copy_(y)
        return
    assert isinstance(module.weight, Tensor)
    own, mean = (getattr(one, name, None) for one, name in ((module, "bias"), (norm, "running_mean")))
    before = matrix(module)
    covariance, cross = (of(own is not None or mean is not None) for of in (moments.covariance, moments.cross))
    # The ridge pulls towards the weights that were cut, not towards zero.
    change = torch.linalg.solve(ridge(covariance), (cross - before @ covariance).T).T
    weight = before + change
    module.weight.data.copy_(weight.reshape(module.weight.shape))
    if isinstance(own, Tensor):
        own.data.copy_(y - weight @ x)
    elif isinstance(mean, Tensor):
        mean.sub_((y - weight @ x).to(mean))
