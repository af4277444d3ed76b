"""A network with depthwise layers for 32x32 images, for `tools/bench/compare_peers.py`: MobileNetV2 in the small.

    edgeprune train tools/bench/mobile_cifar.py:mobilenet --method none --data cifar10.npz --input 1x3x32x32 \
        --mean .485,.456,.406 --std .229,.224,.225 --epochs 5 --batch-size 128 --out runs/mobilenet
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_STAGES = ((24, 2, 1), (32, 3, 2), (64, 3, 2))
"""Channels, blocks, stride of the first."""
_STEM = 16
_HEAD = 128
_EXPANSION = 4


class InvertedResidual(nn.Module):
    """Wide inside: 1x1 up, 3x3 depthwise, 1x1 down, around a shortcut where the shapes allow one."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        inside = _EXPANSION * in_channels
        self.up = _layer(in_channels, inside, 1)
        self.depthwise = _layer(inside, inside, 3, stride, inside)
        self.down = nn.Sequential(nn.Conv2d(inside, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.depthwise(self.up(x)))
        return out + x if self.shortcut else out


class MobileNet(nn.Module):
    """(N, 3, 32, 32) -> (N, classes); 24 M multiply-accumulates."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = _layer(3, _STEM, 3)
        self.blocks = nn.Sequential()
        width = _STEM
        for channels, count, stride in _STAGES:
            for block in range(count):
                self.blocks.append(InvertedResidual(width, channels, 1 if block else stride))
                width = channels
        self.head = _layer(width, _HEAD, 1)
        self.linear = nn.Linear(_HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(F.adaptive_avg_pool2d(self.head(self.blocks(self.stem(x))), 1).flatten(1))
        return out


def mobilenet() -> nn.Module:
    """Return the network, initialised by torch."""
    return MobileNet()


def _layer(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))
