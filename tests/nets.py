"""Tiny networks, each with one thing that a channel graph must understand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """Stem 3 -> 8, two blocks 8 -> 4 -> 8 that add into it, pool, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.one = self.block()
        self.two = self.block()
        self.fc = nn.Linear(8, 5)

    @staticmethod
    def block() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(8, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(x + self.one(x))
        x = functional.relu(x + self.two(x))
        return self.fc(x.mean((2, 3)))


class Pyramid(nn.Module):
    """Two levels of 8 channels, the coarse one enlarged to the fine one's size and added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 8, 1)
        self.coarse = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        return self.last(fine + functional.interpolate(self.coarse(x), size=fine.shape[-2:], mode="nearest"))


class Depthwise(nn.Module):
    """Expand 3 -> 6, depthwise 6, project 6 -> 4."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 6, 1)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6, bias=False)
        self.project = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(functional.relu6(self.depthwise(functional.relu6(self.expand(x)))))


class Grouped(nn.Module):
    """Conv 3 -> 8, grouped 8 -> 12 in 4 groups (2 in, 3 out each), conv 12 -> 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.grouped(self.first(x)).relu())


class Concat(nn.Module):
    """Two branches of 4 and 6 channels, concatenated with the 3 of the input, BatchNorm over all 13, conv."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 1)
        self.right = nn.Conv2d(3, 6, 1)
        self.norm = nn.BatchNorm2d(13)
        self.last = nn.Conv2d(13, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(torch.cat([self.left(x), x, self.right(x)], dim=1)))


class Flatten(nn.Module):
    """Conv 3 -> 4, pooled to 2 x 2, flattened to 16, two linear layers with BatchNorm1d between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.hidden = nn.Linear(16, 6)
        self.norm = nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_max_pool2d(self.conv(x).relu(), 2)
        return self.fc(self.norm(self.hidden(x.flatten(1))).relu())


class SqueezeExcite(nn.Module):
    """Conv 3 -> 8, gate 8 -> 2 -> 8, conv 8 -> 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.reduce = nn.Conv2d(8, 2, 1)
        self.widen = nn.Conv2d(2, 8, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = self.widen(self.reduce(functional.adaptive_avg_pool2d(x, 1)).relu())
        return self.last(x * gate.sigmoid())


class PaddedShortcut(nn.Module):
    """Option A of CIFAR ResNets: 4 channels, strided and padded with zeros to 8, added to a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.branch = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.fc((shortcut + self.branch(x)).relu().mean((2, 3)))


class Shared(nn.Module):
    """One convolution used twice in a row, and a last layer whose weight has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 2, 1)
        self.other_head = nn.Conv2d(6, 2, 1)
        self.other_head.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.twice(self.twice(x).relu()).relu()
        return self.head(x) + self.other_head(x)


class Chunked(nn.Module):
    """Conv 3 -> 8 chunked in two: one half goes through a convolution 4 -> 4, both are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.stem(x).chunk(2, dim=1)
        return self.last(torch.cat([one, self.branch(other)], dim=1))


class Decoder(nn.Module):
    """Conv 3 -> 8, transposed 8 -> 6, depthwise transposed 6, grouped transposed 6 -> 12, conv 12 -> 4.

    The transposed ones have a BatchNorm each, and no bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, bias=False)
        self.up_norm = nn.BatchNorm2d(6)
        self.smooth = nn.ConvTranspose2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.smooth_norm = nn.BatchNorm2d(6)
        self.fan = nn.ConvTranspose2d(6, 12, 3, padding=1, groups=3, bias=False)
        self.fan_norm = nn.BatchNorm2d(12)
        self.last = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_norm(self.up(self.stem(x).relu())).relu()
        x = self.smooth_norm(self.smooth(x)).relu()
        return self.last(self.fan_norm(self.fan(x)).relu())


class Shuffle(nn.Module):
    """Conv 3 -> 8, shuffled in 2 groups, conv 8 -> 2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, -1, height, width)
        return self.last(x)


class WrittenSize(nn.Module):
    """A view with its sizes written in the code: the first convolution can't be narrower, the second can."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Conv2d(3, 8, 1)
        self.free = nn.Conv2d(8, 6, 1)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fixed(x)
        x = x.view(x.shape[0], 8, x.shape[2] * x.shape[3]).view(x.shape)
        return self.last(self.free(x).relu())


class Attention(nn.Module):
    """Self-attention of 4 heads of 3 in width 6, and an MLP of 10, with layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.norm = nn.LayerNorm(6)
        self.qkv = nn.Linear(6, 36)
        self.project = nn.Linear(12, 6)
        self.wide = nn.Linear(6, 10)
        self.narrow = nn.Linear(10, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.project(y)
        x = x + self.narrow(functional.gelu(self.wide(x)))
        return self.fc(x.mean(1))


class OnlyClassifier(nn.Module):
    """Nothing to prune: pixels straight into the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Named(nn.Module):
    """Two named inputs, a dict of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 6, 1)
        self.depth = nn.Conv2d(1, 6, 1)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, image: Tensor, depth: Tensor) -> dict[str, Tensor]:
        x = self.image(image) + self.depth(depth)
        out = self.last(x.relu())
        return {"out": out, "mean": out.mean((2, 3))}


def with_statistics(model: nn.Module) -> nn.Module:
    """Give every BatchNorm random statistics, scales and shifts, as a trained network has them."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model
