"""The papers' networks for 32x32 images, initialised as RNI's published code does."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CIFAR_INPUT = (1, 3, 32, 32)


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.missing = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.missing:
            before = self.missing // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))
        return F.relu(out + x)


class ResNet(nn.Module):
    """6n + 2 layers, stages of w, 2w and 4w channels: (N, 3, 32, 32) -> (N, classes)."""

    def __init__(self, blocks: int, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = nn.Sequential()
        channels = width
        for stage in range(3):
            for block in range(blocks):
                out = width * 2**stage
                self.stages.append(Block(channels, out, 2 if stage and not block else 1))
                channels = out
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(F.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class Vgg16(nn.Module):
    """Torchvision's vgg16_bn features without the last pooling, mean over 2x2, one linear layer."""

    PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)

    def __init__(self, divisor: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for width in (full // divisor for full in self.PLAN):
            if not width:
                self.features.append(nn.MaxPool2d(2))
                continue
            self.features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()])
            channels = width
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(F.avg_pool2d(self.features(x), 2).flatten(1))
        return logits


def vgg16_quarter() -> nn.Module:
    """Return VGG-16 at a quarter of its width: a sixteenth of its MACs."""
    return Vgg16(4)


def resnet20() -> nn.Module:
    """Return ResNet-20."""
    return ResNet(3)


def resnet56() -> nn.Module:
    """Return ResNet-56."""
    return ResNet(9)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg16": Vgg16,
    "vgg16-quarter": vgg16_quarter,
    "resnet20": resnet20,
    "resnet56": resnet56,
}


def build(name: str, seed: int) -> nn.Module:
    """Return a network, initialised as in RNI's code: plain BatchNorms start at a scale of a half."""
    return initialised(NETWORKS[name](), seed)


def initialised(model: nn.Module, seed: int) -> nn.Module:
    """Initialise all of a network, in place: convolutions N(0, sqrt(2 / (k k Cout))), linear layers N(0, 0.01)."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                module.weight.normal_(0, math.sqrt(2 / fan), generator=random)
                if module.bias is not None:  # as torch does, but from the seed
                    edge = 1 / math.sqrt(module.weight[0].numel())
                    module.bias.uniform_(-edge, edge, generator=random)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.01, generator=random)
                module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(0.5)
                module.bias.zero_()
    return model


def narrower(blocks: int, share: float) -> nn.Module:
    """Return the widest ResNet of 6n + 2 layers whose body has at most `share` of the MACs of the one of width 16."""
    return ResNet(blocks, max(1, int(16 * math.sqrt(share))))


def prunable_norms(model: nn.Module) -> list[str]:
    """Return the BatchNorms whose channels are ranked: all of VGG's, the first of each residual block."""
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    return (
        norms if isinstance(model, Vgg16) else [name for name in norms if name.startswith("stages.") and "bn1" in name]
    )
