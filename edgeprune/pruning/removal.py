"""Layers that a cut left nothing of: replaced by what they then compute, so that the network's code runs as it is.

A layer that keeps no output channel becomes `Absent`, a layer that reads no channel becomes `Constant`. What lies
between the two runs on one channel of zeros, of the size that the code expects; an export folds it into the constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


class Absent(nn.Module):
    """A layer without output channels: one channel of zeros.

    Args:
        layer: the layer that is gone; its geometry is kept, if it has one.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.size = _Size(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Take a tensor as the layer did; return zeros of the shape that it would give, but for one channel."""
        return x.new_zeros(self.size.of(x, 1))


class Constant(nn.Module):
    """A layer that reads no channel: its bias at every position, whatever comes in.

    Args:
        layer: the layer that it stands for.
        bias: one entry an output channel.
    """

    def __init__(self, layer: nn.Module, bias: nn.Parameter) -> None:
        super().__init__()
        self.bias = bias
        self.size = _Size(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Take a tensor as the layer did, of any number of channels; return what it would give."""
        shape = self.size.of(x, len(self.bias))
        own = [1] * len(shape)
        own[self.size.channel(x)] = -1
        # Code may add to it in place, so that an expanded view would not do.
        return self.bias.view(own).expand(shape).contiguous()


class _Size:
    """The shape of what a layer computes, without computing it."""

    def __init__(self, layer: nn.Module) -> None:
        self.spatial = 0
        self.transposed = False
        if isinstance(layer, _ConvNd):
            self.spatial = len(layer.kernel_size)
            self.transposed = layer.transposed
            self.kernel, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
            padding = layer._reversed_padding_repeated_twice
            self.padding = [before + after for before, after in zip(padding[::2], padding[1::2], strict=True)][::-1]
            self.extra = cast(Sequence[int], layer.output_padding)
        elif isinstance(layer, nn.Linear):
            self.spatial = -1

    def channel(self, x: Tensor) -> int:
        """Return the channels' dimension."""
        return x.ndim - 1 if self.spatial < 0 else x.ndim - 1 - self.spatial if self.spatial else 1

    def of(self, x: Tensor, channels: int) -> tuple[int, ...]:
        """Return the shape of the output for input `x` when it has so many channels."""
        shape: list[int] = list(x.shape)
        shape[self.channel(x)] = channels
        for at in range(max(0, self.spatial)):
            place = x.ndim - self.spatial + at
            reach = self.dilation[at] * (self.kernel[at] - 1)
            if self.transposed:
                shape[place] = (shape[place] - 1) * self.stride[at] - self.padding[at] + reach + self.extra[at] + 1
            else:
                shape[place] = (shape[place] + self.padding[at] - reach - 1) // self.stride[at] + 1
        return tuple(shape)


def without_empty(model: nn.Module) -> nn.Module:
    """Replace, in place, the layers of `model` whose parameters are empty; return it, or what stands for all of it.

    Modules that hold others and have such parameters of their own stay: what they do with them is theirs.
    """
    for name, module in list(model.named_modules()):
        if not list(module.children()) and any(one.numel() == 0 for one in module.parameters(recurse=False)):
            if not name:
                return _substitute(module)
            model.set_submodule(name, _substitute(module))
    return model


def _substitute(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Linear | _ConvNd):
        return Absent(module)
    # A transposed weight has the outputs of one group as its columns.
    outputs, groups = (1, module.groups) if isinstance(module, _ConvNd) and module.transposed else (0, 1)
    size = module.weight.shape[outputs] * groups
    if size == 0 or module.weight.shape[1 - outputs] > 0:
        return Absent(module)
    bias = module.bias if module.bias is not None else module.weight.new_zeros(size)
    return Constant(module, nn.Parameter(bias.detach(), module.weight.requires_grad))
