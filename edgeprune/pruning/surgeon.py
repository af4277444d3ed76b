"""What each channel's removal costs when the layers that read it are refitted: the criterion `obs`.

Optimal Brain Surgeon (Hassibi and Stork 1993) on whole channels: with C the covariance of a layer's input features, the
least-squares refit after the features S are gone raises the squared error of output o by

    w_oS  inverse((C^-1)_SS)  w_oS^T

Channels leave one by one, the cheapest first, and the weights and C^-1 are updated after each (a block of elimination),
so that what two channels both know is only free once. The outputs' errors are weighted by how strongly the network's
outputs depend on them, E of the squared derivative of v * logits with v standard normal: the diagonal of the
Gauss-Newton matrix of the logits, which needs no labels. What comes out is the expected squared change of the logits,
so that channels of different layers compare. A channel's score is the cost of its own step; costs never fall along the
way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.errors import InputError
from edgeprune.graph.channels import ChannelGraph, ChannelGroup
from edgeprune.pruning.moments import Moments, is_product, layer_modules, matrix, patches, ridge, sampled

MEMORY = 2**32
"""Bytes that a pass forth and back may take; a batch that would take more is looked at in parts."""

HELD = 4
"""So often every layer's output is held: as it is, as a copy, as what the next layer reads, and as its gradient."""


@dataclass
class _Reader:
    """One layer that reads a group, while the group's channels leave.

    Attributes:
        weight: (outputs, features), each row times the root of its output's weight; updated.
        inverse: of the covariance of the features; updated.
        features: (channels, k) the features that belong to each channel of the group, from `first` on.
        first: the first channel that has any.
    """

    weight: Tensor
    inverse: Tensor
    features: Tensor
    first: int

    def costs(self, channels: Tensor) -> Tensor:
        """Return what each of `channels` costs now; zero for those that the layer does not read."""
        found = torch.zeros(len(channels), dtype=self.weight.dtype)
        own = (channels >= self.first) & (channels < self.first + len(self.features))
        at = self.features[channels[own] - self.first]
        blocks = self.inverse[at[:, :, None], at[:, None, :]]
        weights = self.weight[:, at].transpose(0, 1)  # (channels, outputs, k)
        refit = torch.linalg.solve(blocks, weights.transpose(1, 2))
        found[own] = (weights.transpose(1, 2) * refit).sum((1, 2)).clamp_min(0.0)
        return found

    def remove(self, channel: int) -> None:
        """Take the channel's features out and refit the others."""
        if not self.first <= channel < self.first + len(self.features):
            return
        at = self.features[channel - self.first]
        columns = self.inverse[:, at]
        step = torch.linalg.solve(self.inverse[at][:, at], columns.T)  # (k, features)
        self.weight -= self.weight[:, at] @ step
        self.inverse -= columns @ step


def obs(model: nn.Module, graph: ChannelGraph, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, np.ndarray]:
    """Score every channel by the cost of its removal; see the module's docstring.

    Args:
        model: the network, in eval mode.
        graph: its channel groups.
        batches: (images, labels) pairs; the labels are not looked at.

    Returns:
        Group -> float64 array (channels,). Groups that no plain matrix product reads get the median score of the
        others.

    Raises:
        InputError: there is no batch.
    """
    names = [name for name in layer_modules(model, graph) if is_product(model.get_submodule(name))]
    moments, weights = _observed(model, names, batches)
    scores = {group.name: _eliminated(group, _readers(model, graph, group, moments, weights)) for group in graph}
    known = [score for score in scores.values() if score is not None]
    usual = float(np.median(np.concatenate(known))) if known else 1.0
    return {
        name: score if score is not None else np.full(graph.groups[name].channels, usual)
        for name, score in scores.items()
    }


def _observed(
    model: nn.Module, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[dict[str, Moments], dict[str, Tensor]]:
    """Return the moments of every layer's inputs, and the weight of every output of it."""
    moments = {name: Moments() for name in names}
    squares: dict[str, Tensor | float] = dict.fromkeys(names, 0.0)
    count = 0
    generator = torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    for images in (part for batch, _ in batches for part in _affordable(model, batch)) if names else ():
        with torch.enable_grad(), _watched(model, names) as seen:
            # Outputs have a gradient wherever the input has one, whatever is frozen.
            logits = model(images.to(device, copy=True).requires_grad_())
            called = [name for name in names if len(seen[name].outputs) == 1]
            direction = torch.randn(logits.shape, generator=generator).to(logits)
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
                (logits * direction).sum(), [seen[name].outputs[0] for name in called], allow_unused=True
            )
        count += len(images)
        for name, gradient in zip(called, gradients, strict=True):
            if gradient is None:
                continue
            module = model.get_submodule(name)
            at = sampled(module, seen[name].outputs[0], generator)
            moments[name].add(patches(module, seen[name].inputs[0].detach(), at))
            last = gradient.ndim - 1 if isinstance(module, nn.Linear) else 1
            squares[name] = squares[name] + gradient.double().movedim(last, -1).flatten(0, -2).square().sum(0).cpu()
    if names and not count:
        raise InputError("there is no batch to score channels on", remedy="give at least one batch")
    weights = {name: torch.as_tensor(total) / count for name, total in squares.items() if isinstance(total, Tensor)}
    return moments, weights


def _affordable(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return a batch in as few parts as `MEMORY` allows."""
    each = 0

    def note(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        nonlocal each
        if isinstance(outputs, Tensor) and not any(module.children()):
            each += outputs.nbytes

    device = next(model.parameters()).device
    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            model(images[:1].to(device))
    finally:
        for handle in handles:
            handle.remove()
    return torch.split(images, max(1, int(MEMORY / max(1, HELD * each))))


@dataclass
class _Seen:
    """What went through a layer: one entry a call."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@contextmanager
def _watched(model: nn.Module, names: Iterable[str]) -> Iterator[Mapping[str, _Seen]]:
    """Note the inputs and outputs of the layers `names` at every call."""
    seen = {name: _Seen() for name in names}
    handles = []
    for name in seen:

        def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, name: str = name) -> Tensor:
            seen[name].inputs.append(inputs[0])
            seen[name].outputs.append(output)
            return output.clone()  # the network may change it in place

        handles.append(model.get_submodule(name).register_forward_hook(note))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _readers(
    model: nn.Module, graph: ChannelGraph, group: ChannelGroup, moments: dict[str, Moments], weights: dict[str, Tensor]
) -> list[_Reader]:
    found = []
    for slot in group.slots:
        if slot.dim != 1 or slot.module not in weights or not slot.tensor.endswith(".weight"):
            continue
        module = model.get_submodule(slot.module)
        weight = matrix(module)
        each = weight.shape[1] // graph.shapes[slot.tensor][1]
        features = torch.from_numpy(slot.index)[:, :, None] * each + torch.arange(each)
        inverse = torch.linalg.inv(ridge(moments[slot.module].covariance()))
        scaled = weight * weights[slot.module].sqrt()[:, None]
        found.append(_Reader(scaled, inverse, features.flatten(1), slot.first))
    return found


def _eliminated(group: ChannelGroup, readers: Sequence[_Reader]) -> np.ndarray | None:
    """Return the cost of each channel's step when the cheapest always leaves next."""
    if not readers:
        return None
    left = torch.arange(group.channels)
    costs = np.zeros(group.channels)
    highest = 0.0
    while len(left):
        now = torch.stack([reader.costs(left) for reader in readers]).sum(0)
        at = int(now.argmin())
        channel = int(left[at])
        highest = max(highest, float(now[at]))
        costs[channel] = highest
        for reader in readers:
            reader.remove(channel)
        left = torch.cat([left[:at], left[at + 1 :]])
    return costs
