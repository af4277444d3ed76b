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
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import eval_mode
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.moments import (
    POSITIONS,
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
"""Multiply-accumulates that all passes may take, one for each layer: where the network is large, fewer images are
looked at, at more positions. By work and not by the clock, so that the same seed gives the same weights on a slower
day. Never several layers a pass: each would make up for what the ones before it have mended by then.
"""

IMAGES_MIN = 32
"""With fewer images a refit says nothing, so that this many are looked at whatever the work."""


def compensate(
    small: nn.Module,
    model: nn.Module,
    plan: WidthPlan,
    images: Sequence[Tensor],
    *,
    seed: int = 0,
    reach: int | None = None,
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
        reach: so many layers are fitted, the first that read what was cut; all by default.
        progress: where to show it.
    """
    kept = {name: dims[0] for name, dims in plan.cuts.tensors.items() if name.endswith(".weight") and 0 in dims}
    names = _reached(plan, small)[:reach]
    batches, positions = _affordable(images, plan.graph.macs() * len(names))
    with eval_mode(model), eval_mode(small), torch.no_grad(), progress.step("compensating", len(names)) as step:
        norms = dict(plan.graph.foldable)
        for name in names:
            moments = _moments(name, small, model, kept.get(f"{name}.weight"), batches, positions, seed)
            if moments is not None:
                norm = small.get_submodule(norms[name]) if name in norms else None
                _fit(small.get_submodule(name), norm, moments)
            step.advance()


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


def _affordable(images: Sequence[Tensor], work_each: float) -> tuple[list[Tensor], int]:
    """Return as many images, in their batches, as `WORK` allows for, and at how many positions to look at each."""
    given = sum(map(len, images))
    count = min(given, max(IMAGES_MIN, int(WORK / max(work_each, 1.0))))
    batches, left = [], count
    for batch in images:
        batches.append(batch[:left])
        left -= len(batches[-1])
    return [batch for batch in batches if len(batch)], math.ceil(POSITIONS * given / max(count, 1))


def _moments(
    name: str,
    small: nn.Module,
    model: nn.Module,
    kept: np.ndarray | None,
    images: Sequence[Tensor],
    positions: int,
    seed: int,
) -> Moments | None:
    """Return what a layer reads in `small` and computed in `model`; None where it does not run once."""
    moments = Moments()
    generator = torch.Generator().manual_seed(seed)
    module, dense_layer = small.get_submodule(name), model.get_submodule(name)
    for batch in images:
        runs = []
        for network in (small, model):
            with watched(network, [name], stop_after=name) as seen, contextlib.suppress(Enough):
                network(batch)
            runs.append(seen[name])
        own, dense = runs
        if len(own.inputs) != 1 or len(dense.outputs) != 1:
            return None
        x, at = rows(dense_layer if isinstance(module, Constant) else module, own.inputs[0], generator, positions)
        y = outputs_at(dense_layer, dense.outputs[0], at)
        moments.add(x, y if kept is None else y[:, torch.from_numpy(kept)])
    return moments


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
