"""Images in folders, one folder a class, read as they are needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from edgeprune.errors import InputError
from edgeprune.training.images import ALL, CALIBRATION_BATCH, Batch, Normalisation, Share
from edgeprune.training.seeds import generator, stream_seed


class ImageFolders:
    """A folder with train/CLASS/IMAGE and val/CLASS/IMAGE, read as it is needed.

    Images are resized and cropped to the network's input. For training: a random crop of at least a quarter of the
    picture, mirrored at random (Inception's augmentation with a smaller range of scales: recovery is short, and its
    full range, from 8 %, underfits in a few epochs). For validation: the centre, at 87.5 % of the shorter side.

    Raises:
        InputError: train/ or val/ is missing or empty, or their classes differ.
    """

    def __init__(
        self, folder: Path, input_shape: Sequence[int], normalisation: Normalisation, *, mirror: bool = True
    ) -> None:
        from torchvision import transforms  # only this source needs it, and it takes a second to import

        if len(input_shape) != 4 or input_shape[1] not in (1, 3):
            raise InputError(
                f"images from a folder have 1 or 3 channels, the network's input is {'x'.join(map(str, input_shape))}",
                remedy="give the data as FILE.npz or FILE.py:FUNCTION",
            )
        channels, size = input_shape[1], tuple(input_shape[2:])
        self._normalisation = normalisation.checked(channels)
        mode = "L" if channels == 1 else "RGB"
        pixels = [transforms.Lambda(_Convert(mode)), transforms.PILToTensor()]
        larger = [round(side / 0.875) for side in size]
        centred = [transforms.Resize(max(larger)), transforms.CenterCrop(size), *pixels]
        flip = transforms.RandomHorizontalFlip(0.5 if mirror else 0.0)
        varied = [transforms.RandomResizedCrop(size, scale=(0.25, 1.0)), flip, *pixels]
        self._train = _open_folder(folder / "train", transforms.Compose(centred))
        self._varied = _open_folder(folder / "train", transforms.Compose(varied))
        self._val = _open_folder(folder / "val", transforms.Compose(centred))
        if self._train.classes != self._val.classes:
            differing = sorted(set(self._train.classes) ^ set(self._val.classes))
            raise InputError(
                f"{folder}: train/ and val/ differ in their classes: {', '.join(differing[:5])}",
                remedy="give both the same sub-folders, one a class",
            )
        self.classes: int = len(self._train.classes)
        self.train_size: int = len(self._train)
        self.val_size: int = len(self._val)
        self.digest = _digest_files(folder, [path for path, _ in self._train.samples + self._val.samples])
        self.description = (
            f"{folder}: {self.train_size} training and {self.val_size} validation images read as "
            f"{channels}x{size[0]}x{size[1]}, {self.classes} classes; {self._normalisation}; "
            f"for training cropped at random, {'mirrored at random' if mirror else 'never mirrored'}"
        )

    def train_steps(self, batch_size: int) -> int:
        return max(1, self.train_size // batch_size)

    def train_batches(
        self, batch_size: int, epoch: int, seed: int, augment: bool = True, share: Share = ALL
    ) -> Iterator[Batch]:
        order = torch.randperm(self.train_size, generator=generator(seed, epoch))
        batches = torch.split(order[: self.train_steps(batch_size) * batch_size], batch_size)
        # Each process decodes its own part alone: an image's variation does not depend on who reads it.
        chosen = torch.cat([batch[share.part(len(batch))] for batch in batches]).tolist()
        images = self._varied if augment else self._train
        return self._batches(Subset(_Seeded(images, seed, epoch), chosen), min(batch_size, self.train_size) // share.of)

    def val_batches(self, batch_size: int) -> Iterator[Batch]:
        return self._batches(_Seeded(self._val, 0, 0), batch_size)

    def calibration(self, images: int, seed: int) -> list[Batch]:
        chosen = torch.randperm(self.train_size, generator=generator(seed))[:images].tolist()
        return list(self._batches(Subset(_Seeded(self._train, seed, 0), chosen), CALIBRATION_BATCH))

    def _batches(self, images: Dataset[Any], batch_size: int) -> Iterator[Batch]:
        # Decoding is the bottleneck; one core stays free for the training itself.
        workers = min(8, len(os.sched_getaffinity(0)) - 1) if hasattr(os, "sched_getaffinity") else 2
        loader = DataLoader(images, batch_size, num_workers=workers, collate_fn=_collate)
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield self._normalisation(batch[0]), batch[1]


class _Convert:
    """A named class and no lambda, so that loader processes can be started by spawning."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        return image.convert(self.mode)


class _Seeded(Dataset[Any]):
    """Images whose random transforms depend on (seed, epoch, index) alone: not on the order, nor on who reads them."""

    def __init__(self, images: Any, seed: int, epoch: int) -> None:
        self.images, self.seed, self.epoch = images, seed, epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | InputError:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self.seed, self.epoch, index))
            try:
                picture, label = self.images[index]
            except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for a file that is no image
                path = self.images.samples[index][0]
                return InputError(f"{path} cannot be read as an image: {error}", remedy="mend or remove the file")
        return picture, label


def _collate(items: list[tuple[Tensor, int] | InputError]) -> Batch | InputError:
    """Stack a batch; an error travels as a value, because a loader process turns exceptions into traces."""
    pictures, labels = [], []
    for item in items:
        if isinstance(item, InputError):
            return item
        pictures.append(item[0])
        labels.append(item[1])
    return torch.stack(pictures), torch.tensor(labels)


def _open_folder(folder: Path, transform: Any) -> Any:
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(str(folder), transform)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"{folder} is not a folder of images: {reason}", remedy="give a folder with train/CLASS/ and val/CLASS/"
        ) from None


def _digest_files(folder: Path, paths: Sequence[str]) -> str:
    """Hash names and sizes: reading every picture of a large set would take longer than the cut."""
    lines = sorted(f"{Path(path).relative_to(folder)} {Path(path).stat().st_size}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
