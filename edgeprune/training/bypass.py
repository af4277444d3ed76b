"""A convolution with a light bypass beside it, so that the layer stays expressive when few of its filters are left.

LAPP (arXiv 2309.14157) adds "an additional lightweight bypass for each convolutional layer to be pruned" before
training starts. Nothing more could be read. Ours: a 1x1 convolution of the layer's full output width and stride with a
BatchNorm of its own and no activation, added to the convolution's output, in front of the BatchNorm behind that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import InputError, nearest
from edgeprune.training.thresholds import masked, relative_sizes, step


class Bypassed(nn.Module):
    """conv(x) + bypass(x), where some of conv's filters may be masked by a threshold, or gone.

    Attributes:
        conv: the convolution; None when all its filters are gone.
        bypass: what is added; None for nothing.
        threshold: filters of a smaller relative size are masked; None where nothing is.
        masks_filters: the mask is on the filters (else somebody else applies `mask`).
        slots: for each output channel the filter that makes it, or the number of filters where none does; None where
            filters and output channels are the same.
    """

    slots: Tensor | None

    def __init__(self, conv: nn.Conv2d, kind: str) -> None:
        super().__init__()
        made = BYPASSES[kind](conv)
        self.conv: nn.Conv2d | None = conv
        self.bypass = None if made is None else nn.Sequential(made, nn.BatchNorm2d(conv.out_channels))
        self.threshold: nn.Parameter | None = None
        self.masks_filters = False
        self._mask: Tensor | None = None
        self.register_buffer("slots", None)

    def open(self, *, masks_filters: bool) -> None:
        """Give the layer a threshold, at zero."""
        assert self.conv is not None
        self.threshold = nn.Parameter(self.conv.weight.new_zeros(()))
        self.masks_filters = masks_filters

    def mask(self) -> Tensor:
        """Return 1 for each filter above the threshold and 0 for the others, differentiable by the threshold.

        While the network trains it is the same tensor until `renew`, so that it is worked out, and differentiated,
        once a step.
        """
        if self._mask is not None and torch.is_grad_enabled():
            return self._mask
        assert self.conv is not None
        assert self.threshold is not None
        mask = step(relative_sizes(self.conv.weight) - self.threshold)
        if self.training and torch.is_grad_enabled():
            self._mask = mask
        return mask

    def renew(self) -> None:
        """Have the mask worked out again: the weights or the threshold have changed."""
        self._mask = None

    def narrow(self, kept: Tensor) -> None:
        """Keep the filters `kept` alone; each still adds to the output channel that it made."""
        conv = self.conv
        assert conv is not None
        slots = torch.full((conv.out_channels,), len(kept), dtype=torch.long, device=kept.device)
        slots[kept] = torch.arange(len(kept), device=kept.device)
        self.slots = slots
        if not len(kept):
            self.conv = None
            return
        conv.weight = nn.Parameter(conv.weight.detach()[kept], conv.weight.requires_grad)
        if conv.bias is not None:
            conv.bias = nn.Parameter(conv.bias.detach()[kept], conv.bias.requires_grad)
        conv.out_channels = len(kept)

    def close(self) -> None:
        """Take the threshold away."""
        self.threshold = None
        self.renew()

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            assert self.bypass is not None, "the last filter goes only where a bypass stays"
            alone: Tensor = self.bypass(x)
            return alone
        out = self._filtered(x, self.conv)
        if self.slots is not None:
            out = F.pad(out, (0, 0, 0, 0, 0, 1)).index_select(1, self.slots)
        return out if self.bypass is None else out + self.bypass(x)

    def _filtered(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        if self.threshold is None or not self.masks_filters:
            made: Tensor = conv(x)
            return made
        mask = self.mask()
        bias = None if conv.bias is None else masked(conv.bias, mask)
        filtered: Tensor = conv._conv_forward(x, masked(conv.weight, mask), bias)
        return filtered


def add_bypasses(model: nn.Module, names: tuple[str, ...], kind: str) -> None:
    """Put a `Bypassed` in place of each convolution, in place; the bypasses are initialised by torch's random state."""
    if kind not in BYPASSES:
        raise InputError(f"no bypass is named {kind!r}{nearest(kind, BYPASSES)}", remedy=f"use {', '.join(BYPASSES)}")
    for name in names:
        conv = model.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        model.set_submodule(name, Bypassed(conv, kind).train(conv.training).to(conv.weight.device))


def bypassed(model: nn.Module) -> dict[str, Bypassed]:
    """Return name -> layer with a bypass, in the network's own order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Bypassed)}


def _pointwise(conv: Any) -> nn.Conv2d:
    return nn.Conv2d(conv.in_channels, conv.out_channels, 1, conv.stride, bias=False)


def _depthwise(conv: Any) -> nn.Conv2d:
    channels = conv.in_channels
    if conv.out_channels != channels:
        return _pointwise(conv)
    window = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return nn.Conv2d(channels, channels, *window, groups=channels, bias=False)


BYPASSES: Mapping[str, Callable[[nn.Conv2d], nn.Conv2d | None]] = {
    "pointwise": _pointwise,
    "depthwise": _depthwise,  # pointwise where the channels that come in are not those that go out
    "none": lambda conv: None,
}
