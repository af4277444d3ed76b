"""Images from the user's own code: two loaders, or a function that returns them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeprune.errors import InputError
from edgeprune.training.images import ALL, Batch, Normalisation, Share
from edgeprune.units import format_shape
from edgeprune.usercode import call_function, told


@dataclass(frozen=True, eq=False)
class Loaders:
    """Two loaders from the user's own code: sized iterables of (images, labels), as torch's DataLoader is.

    They batch, vary and normalise by themselves, so batch size and `augment` are theirs, and calibration images are
    varied if training images are. What they draw from torch's global generator is the same for the same
    (seed, epoch), because the training loop seeds that generator at the start of each epoch.

    What they raise while they are read becomes an `InputError`, which names the line of the user's file.

    Attributes:
        name: FILE.py:FUNCTION, or what to call them.
        train: yields training batches, in an order of its own.
        val: yields validation batches.
        classes: that the labels tell apart.
        train_size: images in `train`.
        val_size: images in `val`.
        batch_size: images in the first training batch.
        digest: of the code, the sizes, all validation labels and the first validation batch.
    """

    name: str
    train: Any
    val: Any
    classes: int
    train_size: int
    val_size: int
    batch_size: int
    digest: str

    @property
    def description(self) -> str:
        return f"{self.name}: {self.train_size} training and {self.val_size} validation images, {self.classes} classes"

    def train_steps(self, batch_size: int) -> int:
        return len(self.train)

    def train_batches(
        self, batch_size: int, epoch: int, seed: int, augment: bool = True, share: Share = ALL
    ) -> Iterator[Batch]:
        for images, labels in _read(self.name, self.train):
            part = share.part(len(labels))
            if part.stop - part.start > 1:  # of a single image BatchNorm has no statistics
                yield images[part], labels[part]

    def val_batches(self, batch_size: int) -> Iterator[Batch]:
        yield from _read(self.name, self.val)

    def calibration(self, images: int, seed: int) -> list[Batch]:
        batches: list[Batch] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for x, y in _read(self.name, self.train):
                batches.append((x[:images], y[:images]))
                images -= len(y)
                if images <= 0:
                    break
        return batches


def open_loaders(
    text: str, normalisation: Normalisation, input_shape: Sequence[int], seed: int, *, mirror: bool = True
) -> Loaders:
    """Call FILE.py:FUNCTION, and look at what it returns, for a network whose input is `input_shape` (1, C, H, W).

    Raises:
        InputError: not two loaders of labelled float images of that shape, they raise something, or a normalisation
            that would be a second one.
    """
    if normalisation != Normalisation():
        raise InputError(
            f"mean or std is given, and {text} returns images that are numbers already",
            remedy="leave out --mean and --std, and normalise in the function",
        )
    if not mirror:
        raise InputError(
            f"--no-mirror was given, and {text} varies its images by itself", remedy="leave it out, and see to it there"
        )
    code = Path(text.rpartition(":")[0]).read_bytes()
    return paired(text, lambda: call_function(text), input_shape, seed, code=code)


def paired(name: str, made: Callable[[], Any], input_shape: Sequence[int], seed: int, *, code: bytes = b"") -> Loaders:
    """Look at two loaders, for a network whose input is `input_shape` (1, C, H, W).

    Args:
        name: what to call them.
        made: returns them.
        input_shape: of the network.
        seed: of what is drawn while they are made and looked at.
        code: of the file that they are from.

    Raises:
        InputError: not two loaders of labelled float images of that shape, or they raise something.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = made()
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise InputError(
                f"{name} returned {type(found).__name__}, not two loaders", remedy="return (training, validation)"
            )
        for loader in found:
            if not _is_sized(loader):
                raise InputError(
                    f"{name} returned a {type(loader).__name__}, which has no length or cannot be iterated over",
                    remedy="return two DataLoaders over datasets of known size, or two lists of batches",
                )
        train, val = found
        batch = _checked_batch(name, next(_read(name, train), None), input_shape)
        # All of it is read once, here: sizes and classes are then known, and a bad batch shows before anything is cut.
        first: torch.Tensor | None = None
        labels = []
        for one in _read(name, val):
            images, numbers = _checked_batch(name, one, input_shape)
            first = images if first is None else first
            labels.append(numbers)
    if first is None:
        raise _without_a_batch(name)
    train_size, known = _size(train, len(batch[1])), torch.cat(labels)
    digest = hashlib.sha256(code + f"{train_size} {known.tolist()}".encode())
    digest.update(first.contiguous().numpy().tobytes())
    return Loaders(
        name=name,
        train=train,
        val=val,
        classes=int(max(known.max(), batch[1].max())) + 1,
        train_size=train_size,
        val_size=len(known),
        batch_size=len(batch[1]),
        digest=digest.hexdigest(),
    )


def _read(text: str, loader: Any) -> Iterator[Any]:
    """Yield what a loader of FILE.py:FUNCTION yields.

    Raises:
        InputError: the user's code raised something.
    """
    try:
        yield from loader
    except Exception as error:
        raise InputError(
            f"{told(Path(text.rpartition(':')[0]), error)}, while batches of {text} were read",
            remedy="fix the loader, or what it reads",
        ) from error


def _without_a_batch(text: str) -> InputError:
    return InputError(f"{text} returned a loader without a batch", remedy="return two loaders that hold images")


def _is_sized(loader: Any) -> bool:
    try:
        return len(loader) >= 0 and hasattr(loader, "__iter__")
    except Exception:  # a DataLoader asks its dataset
        return False


def _size(loader: Any, batch_size: int) -> int:
    """Return the images in a loader: exactly where it names its dataset, else as if all batches were like the first."""
    dataset: Any = getattr(loader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else len(loader) * batch_size


def _checked_batch(text: str, batch: Any, input_shape: Sequence[int]) -> Batch:
    """Return `batch` if it is (float32 images (N, C, H, W) of the network's input, int64 labels (N,)).

    Raises:
        InputError: it is something else.
    """
    if batch is None:
        raise _without_a_batch(text)
    if (
        not isinstance(batch, tuple | list)
        or len(batch) != 2
        or not all(isinstance(part, torch.Tensor) for part in batch)
    ):
        raise InputError(f"{text} has a batch that is no pair of tensors", remedy="yield (images, labels)")
    images, labels = batch
    if images.dtype != torch.float32 or labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise InputError(
            f"{text} has a batch of {images.dtype} {tuple(images.shape)} and {labels.dtype} {tuple(labels.shape)}",
            remedy="yield float32 images (N, C, H, W) and int64 labels (N,)",
        )
    if images.shape[1:] != tuple(input_shape[1:]):
        seen, wanted = format_shape(images.shape), format_shape(input_shape)
        fitting = format_shape((1, *images.shape[1:]))
        raise InputError(
            f"{text} has a batch of {seen} and the network's input is {wanted}",
            remedy=f"if the network takes it, give --input {fitting}; or resize the images",
        )
    return images, labels
