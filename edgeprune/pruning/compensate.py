"""Recovery without training: each layer of the compact network is fitted to what it computed in the dense one.

A layer that reads fewer channels cannot compute what it did, but what is left of its input says much about what is
gone. In the order of execution, each layer's weight becomes the least-squares solution of

    min over W of  E |y - W x|^2,   x what it reads in the compact network, y what it computed in the dense one

so it makes up for its own lost inputs and for what the layers before it still get wrong. The expectation is over
unlabelled images and sampled positions; a bias takes the means, where the layer has one or BatchNorm follows.
(Channel Pruning, He et al. 2017, solves it layer by layer; here with the inputs of the compact network, and through
residuals and concatenations, since only what a layer reads and computes is looked at.)

The compact network runs once: a layer is fitted when its input arrives, and then computes what the next ones read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.inputs import eval_mode
from edgeprune.graph.plan import WidthPlan
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.moments import (
    POSITIONS,
    Moments,
    features,
    is_product,
    layer_modules,
    matrix,
    outputs_at,
    patches,
    ridge,
    sampled,
)
from edgeprune.pruning.removal import Constant

WORK = 4e12
"""Multiply-accumulates that the passes may take: where the network is large, fewer images are looked at, at more
positions. By work and not by the clock, so that the same seed gives the same weights on a slower day.
"""

IMAGES_MIN = 32
"""With fewer images a refit says nothing, so that this many are looked at whatever the work."""

MEMORY = 2**31
"""Bytes for the activations of one pass over all images, and as many for what is remembered of the dense network."""

ALIVE = 4
"""So many tensors of the largest size are taken to be alive at once."""


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
    Refit(model, plan.graph, images, seed=seed).fit(small, plan, progress=progress)


class Refit:
    """Fits compact networks to one dense network, which is not run again for each of them if memory allows.

    Args:
        model: the dense network; left alone.
        graph: its channel groups.
        images: batches (N, C, ...), unlabelled, where the networks are.
        seed: of the positions that are sampled.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, images: Sequence[Tensor], *, seed: int = 0) -> None:
        self.graph = graph
        self.layers = layer_modules(model, graph)
        self.images, positions = _affordable(images, 2 * graph.macs(), _activations(model, images[0][:1]))
        self._dense = _Dense(model, self.layers, self.images, positions, seed)

    def fit(self, small: nn.Module, plan: WidthPlan, *, reach: int | None = None, progress: Progress = SILENT) -> None:
        """Fit the layers of `small`, which `plan` cut from the dense network, in place; see `compensate`.

        Args:
            small: the compact network.
            plan: how it was cut.
            reach: so many layers are fitted, the first that read what was cut; all by default.
            progress: where to show it.
        """
        names = self._reached(small, plan)[:reach]
        left = set(names)

        def fit(name: str, inputs: Tensor) -> None:
            if name in left:
                left.remove(name)
                self._fit(name, small, plan, inputs)
                step.advance()
            if not left:
                raise _Enough

        with eval_mode(small), torch.no_grad(), progress.step("compensating", len(names)) as step, ExitStack() as hooks:
            for name in names:
                hook = small.get_submodule(name).register_forward_pre_hook(partial(_arrived, name, fit))
                hooks.callback(hook.remove)
            if names:
                with suppress(_Enough):
                    small(torch.cat(self.images))

    def _reached(self, small: nn.Module, plan: WidthPlan) -> list[str]:
        """Return the layers, in the order of execution, from the first that reads a cut input on."""
        first = next((at for at, name in enumerate(self.layers) if self._reads_cut(name, plan)), None)
        modules = {name: small.get_submodule(name) for name in self.layers[first:]} if first is not None else {}
        found = {name: module for name, module in modules.items() if isinstance(module, Constant) or is_product(module)}
        shared = Counter(id(_parameter(module)) for module in found.values())
        return [name for name, module in found.items() if shared[id(_parameter(module))] == 1]

    def _reads_cut(self, name: str, plan: WidthPlan) -> bool:
        return any(dim != self._outputs(name) for dim in plan.cuts.tensors.get(f"{name}.weight", {}))

    def _outputs(self, name: str) -> int:
        """Return the dimension of a layer's weight along which its outputs lie."""
        return self.graph.outputs.get(f"{name}.weight", 0)

    def _kept_outputs(self, name: str, plan: WidthPlan, of: int) -> Tensor | None:
        """Return which of a layer's outputs stay, ascending, of so many; None for all of them."""
        weight, dim = f"{name}.weight", self._outputs(name)
        kept = plan.cuts.tensors.get(weight, {}).get(dim)
        if kept is None:
            return None
        # The groups of a transposed convolution have their outputs side by side, under the same columns.
        firsts = range(0, of, self.graph.shapes[weight][dim])
        return torch.cat([torch.from_numpy(kept) + first for first in firsts])

    def _fit(self, name: str, small: nn.Module, plan: WidthPlan, inputs: Tensor) -> None:
        """Fit one layer to what it computed in the dense network, if it ran once there."""
        module, norms = small.get_submodule(name), dict(self.graph.foldable)
        known = self._dense.of(name)
        if known is None:
            return
        moments = Moments()
        kept = self._kept_outputs(name, plan, of=known[0][1].shape[1])
        for read, (at, y) in zip(torch.split(inputs, [len(batch) for batch in self.images]), known, strict=True):
            wanted = y if kept is None else y[:, kept]
            if isinstance(module, Constant):
                moments.add(wanted.new_zeros(len(wanted), 0), wanted)
            else:
                moments.add(patches(module, read, at), wanted)
        _solve(module, small.get_submodule(norms[name]) if name in norms else None, moments)


def work_of_a_fit(model: nn.Module, graph: ChannelGraph, images: int, reach: int | None = None) -> float:
    """Return about how many multiply-accumulates `Refit.fit` takes for so many images: the pass and the algebra."""
    modules = [model.get_submodule(name) for name in layer_modules(model, graph)]
    read = [features(module) for module in modules if is_product(module)]
    algebra = [wide**2 * (POSITIONS * images + wide) for wide in read]
    share = min(1.0, (reach or math.inf) / max(len(read), 1))
    return graph.macs() * images + share * sum(algebra)


class _Enough(Exception):
    """All that was asked for has been seen; the rest of the network need not run."""


def _arrived(name: str, fit: Callable[[str, Tensor], None], module: nn.Module, inputs: tuple[Any, ...]) -> None:
    fit(name, inputs[0])


class _Dense:
    """What the layers of the dense network compute, at sampled positions: some layers at a time, as memory allows."""

    def __init__(self, model: nn.Module, layers: list[str], images: list[Tensor], positions: int, seed: int) -> None:
        self.model, self.layers, self.images, self.positions, self.seed = model, layers, images, positions, seed
        self._stock: dict[str, list[tuple[Any, Tensor]]] = {}

    def of(self, name: str) -> list[tuple[Any, Tensor]] | None:
        """Return, for each batch, where a layer was looked at, and its outputs there (samples, outputs).

        None for a layer that does not run once.
        """
        if name not in self._stock:
            self._stock = {}
            self._stock = self._looked_at(self.layers[self.layers.index(name) :])
        found = self._stock.get(name, [])
        return found if len(found) == len(self.images) else None

    def _looked_at(self, layers: list[str]) -> dict[str, list[tuple[Any, Tensor]]]:
        """Run all images as far as memory allows, and return what the layers computed."""
        found: dict[str, list[tuple[Any, Tensor]]] = {}
        generators = {name: torch.Generator().manual_seed(self.seed) for name in layers}
        last, used = "", 0

        def note(name: str, module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> None:
            nonlocal last, used
            at = sampled(module, outputs, generators[name], self.positions)
            found.setdefault(name, []).append((at, outputs_at(module, outputs, at)))
            used += found[name][-1][1].nbytes
            if not last and used * len(self.images) > MEMORY:
                last = name
            if name == last:
                raise _Enough

        with eval_mode(self.model), torch.no_grad(), ExitStack() as hooks:
            for name in layers:
                hooks.callback(self.model.get_submodule(name).register_forward_hook(partial(note, name)).remove)
            for batch in self.images:
                with suppress(_Enough):
                    self.model(batch)
                last = last or layers[-1]
        return found


def _parameter(module: nn.Module) -> object:
    return module.bias if isinstance(module, Constant) else module.weight


def _affordable(images: Sequence[Tensor], work: float, memory: float) -> tuple[list[Tensor], int]:
    """Return as many images, in their batches, as can be afforded, and at how many positions to look at each.

    Args:
        images: batches.
        work: multiply-accumulates for one image.
        memory: bytes for one image.
    """
    given = sum(map(len, images))
    count = min(given, max(IMAGES_MIN, int(min(WORK / max(work, 1.0), MEMORY / max(memory, 1.0)))))
    batches, left = [], count
    for batch in images:
        batches.append(batch[:left])
        left -= len(batches[-1])
    return [batch for batch in batches if len(batch)], math.ceil(POSITIONS * given / max(count, 1))


def _activations(model: nn.Module, image: Tensor) -> int:
    """Return how many bytes of activations one image (1, C, ...) has at once, about."""
    largest = image.nbytes

    def note(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        nonlocal largest
        if isinstance(outputs, Tensor):
            largest = max(largest, outputs.nbytes)

    with eval_mode(model), torch.no_grad(), ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_hook(note).remove)
        model(image)
    return ALIVE * largest


def _solve(module: nn.Module, norm: nn.Module | None, moments: Moments) -> None:
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
