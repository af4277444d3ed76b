"""The embedded example: a small residual network on handwritten digits, with weights, that needs no download."""

from __future__ import annotations

from importlib import resources

import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from edgeprune.training.data import Data, load_data

DEMO_INPUT = (1, 1, 32, 32)
DEMO_WEIGHTS = "demo.safetensors"


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; (N, C_in, H, W) -> (N, C, H / stride, W / stride).

    The shortcut is the identity where the shape stays and a 1x1 convolution where it changes (He et al. 2016, B).
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class DemoNet(nn.Module):
    """A residual network of 14 layers: (N, 1, 32, 32) -> (N, 10); 255 thousand parameters, 67 million MACs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(Block(32, 32, 1), Block(32, 32, 1))
        self.layer2 = nn.Sequential(Block(32, 48, 2), Block(48, 48, 1))
        self.layer3 = nn.Sequential(Block(48, 64, 2), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def demo_model() -> DemoNet:
    """Return the trained network in eval mode (weights stored as float16; `python tools/train_demo.py` makes them)."""
    model = DemoNet()
    stored = resources.files("edgeprune.training").joinpath(DEMO_WEIGHTS).read_bytes()
    model.load_state_dict(load(stored))  # copies into the float32 that the network was made with
    return model.eval()


def demo_data() -> Data:
    """Return the digits, 1x32x32.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    return load_data("demo", input_shape=DEMO_INPUT)
