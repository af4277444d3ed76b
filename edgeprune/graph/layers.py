"""Layers, and how their size follows from the widths of the groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Axis:
    """One dimension of a tensor: `fixed` entries, and so many entries for each kept channel of some groups.

    After a concatenation one dimension holds the channels of several groups, after a flatten several entries a channel.
    """

    fixed: int = 0
    parts: Mapping[str, int] = field(default_factory=dict)

    def width(self, widths: Mapping[str, int]) -> int:
        """Return the size of the dimension when group g keeps `widths[g]` channels."""
        return self.fixed + sum(each * widths[group] for group, each in self.parts.items())

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
    """What decides a layer's time on one device: two layers with equal keys are measured once.

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
    def family(self) -> tuple[str, str, tuple[int, ...]]:
        """The key without the widths: layers of one family lie on one staircase."""
        return self.op, self.detail, self.size
