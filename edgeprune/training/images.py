"""Images held in memory, and what is done to every image: varied for training, then made into numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.errors import InputError
from edgeprune.training.seeds import generator

Batch = tuple[Tensor, Tensor]

CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes learns from."""

    process: int = 0
    of: int = 1

    def part(self, size: int) -> slice:
        """Return where the part lies in a batch of `size` images; all parts are equal, what is over belongs to none."""
        each = size // self.of
        return slice(self.process * each, (self.process + 1) * each)


ALL = Share()


@dataclass(frozen=True)
class Normalisation:
    """How a pixel becomes a number: (pixel / 255 - mean) / std, channel by channel; nothing given means pixel / 255."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def checked(self, channels: int) -> Normalisation:
        """Return the same normalisation with one mean and one std for each of `channels`.

        Raises:
            InputError: another number of values, or a std that is not above zero.
        """
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, channels):
                raise InputError(
                    f"{name} has {len(values)} values and the images have {channels} channels",
                    remedy=f"give --{name} one number for every channel",
                )
        if self.std is not None and min(self.std) <= 0:
            raise InputError(
                f"std {self.std} has a value that is not above zero", remedy="give --std as positive numbers"
            )
        return Normalisation(_repeat(self.mean, channels), _repeat(self.std, channels))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Turn uint8 pixels (N, C, H, W) into float32 of the same shape."""
        numbers = pixels.float() / 255
        if self.mean is not None:
            numbers -= torch.tensor(self.mean).view(-1, 1, 1)
        if self.std is not None:
            numbers /= torch.tensor(self.std).view(-1, 1, 1)
        return numbers

    def __str__(self) -> str:
        if self.mean is None and self.std is None:
            return "pixels divided by 255 (no mean and std given)"
        shown = [
            f"{name} {', '.join(f'{value:g}' for value in values)}" if values else f"no {name}"
            for name, values in (("mean", self.mean), ("std", self.std))
        ]
        return f"pixels divided by 255, {shown[0]}, {shown[1]}"


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied: shifted by up to `shift` pixels over a black border, mirrored or not."""

    shift: int
    mirror: bool

    def __call__(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Vary a batch of uint8 images (N, H, W, C), each on its own; the shape stays."""
        count, height, width, _ = images.shape
        padded = torch.nn.functional.pad(images, (0, 0, self.shift, self.shift, self.shift, self.shift))
        top, left = torch.randint(2 * self.shift + 1, (2, count, 1), generator=random)
        rows = top + torch.arange(height)
        columns = left + torch.arange(width)
        if self.mirror:
            mirrored = torch.randint(2, (count, 1), generator=random).bool()
            columns = torch.where(mirrored, columns.flip(1), columns)
        return padded[torch.arange(count).view(-1, 1, 1), rows[:, :, None], columns[:, None, :]]

    def __str__(self) -> str:
        return f"shifted by up to {self.shift} pixels, {'mirrored at random' if self.mirror else 'never mirrored'}"


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """Images held in memory as uint8 (N, H, W, C) with int64 labels (N,)."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    classes: int
    normalisation: Normalisation
    augmentation: Augmentation
    digest: str

    @property
    def train_size(self) -> int:
        return len(self.x_train)

    @property
    def val_size(self) -> int:
        return len(self.x_val)

    @property
    def description(self) -> str:
        height, width, channels = self.x_train.shape[1:]
        return (
            f"{self.name}: {self.train_size} training and {self.val_size} validation images, {self.classes} classes, "
            f"{channels}x{height}x{width}; {self.normalisation}; for training {self.augmentation}"
        )

    def train_steps(self, batch_size: int) -> int:
        return max(1, self.train_size // batch_size)

    def train_batches(
        self, batch_size: int, epoch: int, seed: int, augment: bool = True, share: Share = ALL
    ) -> Iterator[Batch]:
        random = generator(seed, epoch)
        order = torch.randperm(self.train_size, generator=random)
        for step in range(self.train_steps(batch_size)):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            images = self.x_train[chosen]
            if augment:
                images = self.augmentation(images, random)
            part = share.part(len(chosen))
            yield self._numbers(images[part]), self.y_train[chosen[part]]

    def val_batches(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, self.val_size, batch_size):
            part = slice(start, start + batch_size)
            yield self._numbers(self.x_val[part]), self.y_val[part]

    def calibration(self, images: int, seed: int) -> list[Batch]:
        chosen = torch.randperm(self.train_size, generator=generator(seed))[:images]
        return [
            (self._numbers(self.x_train[part]), self.y_train[part]) for part in torch.split(chosen, CALIBRATION_BATCH)
        ]

    def _numbers(self, images: Tensor) -> Tensor:
        return self.normalisation(images.permute(0, 3, 1, 2).contiguous())


def _repeat(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    return values * channels if values is not None and len(values) == 1 else values
