"""Layers, and how their size follows from the widths of the groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeprune.graph.conditions import ALWAYS, Condition

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""ONNX operators that multiply by weights."""

JOINS = ("Add", "Sub", "Mul")
"""ONNX operators that join two tensors, entry by entry."""

Family = tuple[str, str, tuple[int, ...]]
"""Operators, detail and size: what the layers on one staircase have in common."""


@dataclass(frozen=True)
class Axis:
    """One dimension of a tensor: `fixed` entries, and so many entries for each kept channel of some groups.

    After a concatenation one dimension holds the channels of several groups, after a flatten several entries a channel.
    Where only one of a group's two halves reaches into the dimension, there is half an entry a channel.
    """

    fixed: int = 0
    parts: Mapping[str, float] = field(default_factory=dict)

    def width(self, widths: Mapping[str, int]) -> int:
        """Return the size of the dimension when group g keeps `widths[g]` channels."""
        return self.fixed + round(sum(each * widths[group] for group, each in self.parts.items()))

    def widths(self, widths: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return `width` for many widths at once: group -> one number for each."""
        return np.asarray(self.fixed + np.rint(sum(each * widths[group] for group, each in self.parts.items())))

    def fix(self, sizes: Mapping[str, int]) -> Axis:
        """Return the axis where the groups in `sizes` always keep so many channels."""
        gone = {group: each * sizes[group] for group, each in self.parts.items() if group in sizes}
        parts = {group: each for group, each in self.parts.items() if group not in sizes}
        return Axis(self.fixed + round(sum(gone.values())), parts)

    def __add__(self, other: Axis) -> Axis:
        parts = dict(self.parts)
        for group, each in other.parts.items():
            parts[group] = parts.get(group, 0) + each
        return Axis(self.fixed + other.fixed, parts)


@dataclass(frozen=True)
class Layer:
    """One product of the network: a convolution, a linear layer, a matrix product.

    Attributes:
        name: the module's name.
        op: `conv2d`, `linear`, `matmul` ...
        axes: the dimensions whose product, times `positions`, is the number of multiply-accumulates.
        positions: output positions (pixels, tokens) of one inference, times the kernel's size.
    """

    name: str
    op: str
    axes: tuple[Axis, ...]
    positions: int

    def macs(self, widths: Mapping[str, int]) -> int:
        """Return multiply-accumulates of one inference when group g keeps `widths[g]` channels."""
        count = self.positions
        for axis in self.axes:
            count *= axis.width(widths)
        return count


@dataclass(frozen=True, order=True)
class LayerKey:
    """What decides a layer's time on one device: layers with equal keys take the same time there, in any network.

    Attributes:
        op: ONNX operator, with what the runtime fuses behind it: `Conv`, `Conv+Relu`, `Conv+Add+Relu`.
        detail: kernel, strides, padding, dilation, convolution groups ... as text.
        size: shape of the first input without batch and channels.
        cin: channels that come in.
        cout: channels that go out.
    """

    op: str
    detail: str
    size: tuple[int, ...]
    cin: int
    cout: int

    @property
    def family(self) -> Family:
        """The key without the widths: layers of one family lie on one staircase."""
        return self.op, self.detail, self.size


@dataclass(frozen=True)
class EngineNode:
    """One node of the exported network, and how its size follows from the widths.

    Attributes:
        name: the module's name, unique within the network.
        op: ONNX operator.
        detail: the attributes that decide its time, as text.
        size: shape of the first input without batch and channels.
        cin: channels of the first input.
        cout: channels of the first output.
        lives: when it still has to run, even if only to add a constant.
        works: when it does the same work as in the dense network: none of what it joins has become a constant.
    """

    name: str
    op: str
    detail: str
    size: tuple[int, ...]
    cin: Axis
    cout: Axis
    lives: Condition = ALWAYS
    works: Condition = ALWAYS

    def key(self, widths: Mapping[str, int], op: str = "") -> LayerKey:
        """Return what decides the node's time at `widths`; `op` names it together with what is fused behind it."""
        return LayerKey(op or self.op, self.detail, self.size, self.cin.width(widths), self.cout.width(widths))
