"""What may be cut: channels that must go together, and the groups that they form."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from edgeprune.errors import InputError, nearest
from edgeprune.graph.layers import Axis, Layer
from edgeprune.graph.sizes import SizeAttribute


@dataclass(frozen=True, eq=False)
class Slot:
    """One dimension of one parameter or buffer, as far as a group's channels reach into it.

    `index` has shape (channels, k): the k entries of dimension `dim` of the state-dict tensor `tensor` that belong to
    each channel. k is above 1 where a channel was flattened with its positions, or where a whole convolution group is
    one channel. A slot that only some parts of a group reach into has rows for these alone: row 0 is channel `first`.
    """

    tensor: str
    dim: int
    index: np.ndarray
    first: int = 0

    @property
    def module(self) -> str:
        """The module that owns the tensor."""
        return self.tensor.rpartition(".")[0]

    def entries(self, channels: np.ndarray) -> np.ndarray:
        """Return the entries of the dimension that belong to `channels` of the group."""
        rows = channels - self.first
        found: np.ndarray = self.index[rows[(rows >= 0) & (rows < len(self.index))]]
        return found.ravel()


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that reach into the same dimensions of the same tensors, so that only their number matters.

    Attributes:
        name: the module that produces the channels, as a person would name the group.
        channels: how many can be removed one by one.
        slots: where each channel lives.
        kind: `stream` where something is added to the channels (residual), `heads` of attention, `expansion` where a
            depthwise convolution is among the layers, `mlp` between linear layers, else `inner`.
        exact: whether the network without a channel equals the network with that channel zeroed.
        parts: the channels lie in so many equal runs, each of which must keep the same number, because the code takes
            what they lie in as equal parts (chunk, split, channel shuffle).
        removable: all channels may go: what reads them becomes a constant, and a shortcut carries the rest.
    """

    name: str
    channels: int
    slots: tuple[Slot, ...]
    kind: str = "inner"
    exact: bool = True
    parts: int = 1
    removable: bool = False

    @property
    def least(self) -> int:
        """The smallest width that is possible."""
        return 0 if self.removable else self.parts

    @property
    def possible(self) -> np.ndarray:
        """Every width that is possible, ascending."""
        return np.arange(self.least, self.channels + 1, self.parts)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Every module that the group touches, in the order of execution."""
        return tuple(dict.fromkeys(slot.module for slot in self.slots))


@dataclass(frozen=True)
class Locked:
    """Output channels of convolutions and linear layers that stay, and why."""

    modules: tuple[str, ...]
    channels: int
    reason: str


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """What `trace` found out about a network.

    Attributes:
        groups: by name, in the order of execution.
        locked: what can't be cut, with reasons.
        layers: convolutions and matrix products, in the order of execution.
        axes: (tensor, dimension) -> how many of its entries each group holds; dimensions without a group are left out.
        shapes: state-dict tensor -> shape.
        outputs: weights of convolutions and linear layers -> their dimension of output channels.
        foldable: (module, BatchNorm module) where the BatchNorm may be folded into the module before it, and
            (BatchNorm module, module) where it may be folded into the module behind it.
        example_inputs: what the network was traced with: positional arguments, or named ones.
        aliases: names of tensors that have another name, which counts.
        buffers: names of tensors that are no parameters, such as BatchNorm's statistics.
        submodule: the part of the network that was traced; empty for all of it. Names are those of the whole network.
        attributes: sizes that modules keep, such as `layer1.0.width`, and how they follow from the groups.
        allow_inexact: groups whose cut is inexact by nature may be narrowed as well.
        calls: hash of what the network computes, its weights aside (`record.Recording.digest`).
    """

    groups: Mapping[str, ChannelGroup]
    locked: tuple[Locked, ...]
    layers: tuple[Layer, ...]
    axes: Mapping[tuple[str, int], Axis]
    shapes: Mapping[str, tuple[int, ...]]
    foldable: tuple[tuple[str, str], ...]
    example_inputs: tuple[Any, ...] | Mapping[str, Any] = field(repr=False, default=())
    outputs: Mapping[str, int] = field(repr=False, default_factory=dict)
    aliases: frozenset[str] = frozenset()
    buffers: frozenset[str] = frozenset()
    submodule: str = ""
    attributes: Mapping[str, SizeAttribute] = field(default_factory=dict)
    allow_inexact: bool = False
    calls: str = ""

    @property
    def cuttable(self) -> list[ChannelGroup]:
        """The groups that may be narrowed: those whose cut is exact, and with `allow_inexact` the others too."""
        return [group for group in self if group.exact or self.allow_inexact]

    def group(self, name: str) -> ChannelGroup:
        """Return the group of that name.

        Raises:
            InputError: there is none; the nearest name is suggested.
        """
        try:
            return self.groups[name]
        except KeyError:
            raise InputError(
                f"no channel group is named {name!r}{nearest(name, self.groups)}",
                remedy="`graph.groups` lists the names",
            ) from None

    def axis(self, tensor: str, dim: int) -> Axis:
        """Return how dimension `dim` of `tensor` is made up; a dimension that no group reaches is all fixed."""
        found = self.axes.get((tensor, dim))
        return found if found is not None else Axis(fixed=self.shapes[tensor][dim])

    def layer_of(self, module: str) -> str:
        """Return the layer that a BatchNorm is folded into; any other module is its own."""
        for pair in self.foldable:
            layer, norm = pair if f"{pair[0]}.weight" in self.outputs else pair[::-1]
            if norm == module:
                return layer
        return module

    def lock(self, names: Collection[str], reason: str) -> ChannelGraph:
        """Return the graph with the groups `names` locked for `reason`."""
        locked = [
            Locked(group.modules, count, reason)
            for group in map(self.group, names)
            if (count := sum(slot.index.size for slot in group.slots if self.outputs.get(slot.tensor) == slot.dim))
        ]
        sizes = {name: self.groups[name].channels for name in names}
        return replace(
            self,
            groups={name: group for name, group in self.groups.items() if name not in sizes},
            locked=(*self.locked, *locked),
            layers=tuple(replace(one, axes=tuple(axis.fix(sizes) for axis in one.axes)) for one in self.layers),
            axes={slot: axis.fix(sizes) for slot, axis in self.axes.items()},
            attributes={key: replace(one, axis=one.axis.fix(sizes)) for key, one in self.attributes.items()},
        )

    def keep_some(self, names: Collection[str]) -> ChannelGraph:
        """Return the graph in which the groups `names` keep at least one channel."""
        kept = {name: replace(self.group(name), removable=False) for name in names}
        return replace(self, groups={**self.groups, **kept})

    def macs(self, widths: Mapping[str, int] | None = None) -> int:
        """Return multiply-accumulates of one inference at `widths` (group -> channels kept); dense by default."""
        return sum(layer.macs(self._full(widths)) for layer in self.layers)

    def params(self, widths: Mapping[str, int] | None = None) -> int:
        """Return the number of the parameters' entries at `widths`, those of shared ones once."""
        full = self._full(widths)
        return sum(math.prod(axis.width(full) for axis in axes) for axes in self.parameters())

    def parameters(self) -> list[list[Axis]]:
        """Return how the dimensions of every parameter are made up."""
        counted = (name for name in self.shapes if name not in self.aliases and name not in self.buffers)
        return [[self.axis(name, dim) for dim in range(len(self.shapes[name]))] for name in counted]

    def _full(self, widths: Mapping[str, int] | None) -> dict[str, int]:
        return {name: group.channels for name, group in self.groups.items()} | dict(widths or {})

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self.groups.values())
