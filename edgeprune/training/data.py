"""Where training, calibration and validation images come from.

| written as         | what it is                                                               | held by     |
|--------------------|--------------------------------------------------------------------------|-------------|
| `demo`             | scikit-learn's handwritten digits, 32 x 32                               | ImageArrays |
| `FILE.npz`         | x_train, y_train, x_val, y_val; images uint8 (N, H, W, C), whole numbers (N,) | ImageArrays |
| a folder           | train/CLASS/IMAGE and val/CLASS/IMAGE                                    | ImageFolders |
| `FILE.py:FUNCTION` | a function that returns two loaders, (training, validation)              | Loaders     |
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from edgeprune.errors import InputError, MissingError
from edgeprune.training.folders import ImageFolders
from edgeprune.training.images import ALL, Augmentation, Batch, ImageArrays, Normalisation, Share
from edgeprune.training.loaders import open_loaders
from edgeprune.usercode import is_function_name

_KEYS = ("x_train", "y_train", "x_val", "y_val")
DIGITS_NORMALISATION = Normalisation((0.305,), (0.324,))
_DIGITS_VALIDATION = 500


class Data(Protocol):
    """Labelled images for training and validation.

    A batch is (float32 images (N, C, H, W), int64 labels (N,)), both on the CPU.
    """

    @property
    def classes(self) -> int:
        """How many classes the labels tell apart."""

    @property
    def train_size(self) -> int:
        """How many training images there are."""

    @property
    def val_size(self) -> int:
        """How many validation images there are."""

    @property
    def digest(self) -> str:
        """Hash of what the images were read from, in hexadecimal."""

    @property
    def description(self) -> str:
        """One line for a person: source, sizes, how pixels become numbers, how training images are varied."""

    def train_steps(self, batch_size: int) -> int:
        """Return how many batches an epoch has; a last, smaller one is left out (BatchNorm needs full ones)."""

    def train_batches(
        self, batch_size: int, epoch: int, seed: int, augment: bool = True, share: Share = ALL
    ) -> Iterable[Batch]:
        """Yield one epoch in random order, `share` of every batch; the same (seed, epoch) gives the same batches."""

    def val_batches(self, batch_size: int) -> Iterable[Batch]:
        """Yield every validation image once, always in the same order."""

    def calibration(self, images: int, seed: int) -> list[Batch]:
        """Return `images` training images at most, drawn at random and not varied, as batches."""


def load_data(
    source: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    mirror: bool = True,
    input_shape: Sequence[int],
    seed: int = 0,
) -> Data:
    """Open a source of images (see the table above) for a network whose input is `input_shape` (1, C, H, W).

    `mean` and `std` are in units of pixel / 255, one number a channel; nothing is assumed where they are not given,
    but for `demo`, which brings its own. `mirror` lets training images be mirrored at random, but for `demo`'s. `seed`
    is for sources that draw at random while they are opened.

    Raises:
        InputError: the source does not exist or does not fit what is expected of it or the network's input.
        MissingError: scikit-learn is needed for `demo` and is not installed.
    """
    text = str(source)
    normalisation = Normalisation(tuple(mean) if mean is not None else None, tuple(std) if std is not None else None)
    if text == "demo":
        given = mean is not None or std is not None
        data: Data = _digits(normalisation if given else DIGITS_NORMALISATION, input_shape)
    elif is_function_name(text):
        data = open_loaders(text, normalisation, input_shape, seed, mirror=mirror)
    elif Path(text).is_dir():
        data = ImageFolders(Path(text), input_shape, normalisation, mirror=mirror)
    elif Path(text).is_file():
        data = _read_npz(Path(text), normalisation, input_shape, mirror=mirror)
    else:
        raise InputError(f"data {text!r} does not exist", remedy="give demo, FILE.npz, a folder or FILE.py:FUNCTION")
    return data


def image_shape(source: str) -> tuple[int, ...] | None:
    """Return what a network takes that looks at the images in FILE.npz, (1, C, H, W); None where that is not known.

    Only the array's header is read, and nothing is checked: `load_data` does that.
    """
    try:
        with zipfile.ZipFile(source) as archive, archive.open("x_train.npy") as stream:
            header = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if header == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, _ = read(stream)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return (1, shape[3], *shape[1:3]) if len(shape) == 4 else None


def _read_npz(path: Path, normalisation: Normalisation, input_shape: Sequence[int], *, mirror: bool) -> ImageArrays:
    try:
        found = np.load(path, allow_pickle=False)
        listed = found.files if isinstance(found, np.lib.npyio.NpzFile) else []
        arrays = {key: found[key] for key in _KEYS if key in listed}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as an npz of plain arrays: {error}", remedy="check the file") from None
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise InputError(
            f"{path} has no {', '.join(missing)}; it has {', '.join(listed) or 'no named arrays'}",
            remedy="save it with numpy.savez(FILE, x_train=, y_train=, x_val=, y_val=)",
        )
    for split in ("train", "val"):
        _check_split(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"], input_shape)
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    height, width, channels = arrays["x_train"].shape[1:]
    return ImageArrays(
        name=path.name,
        **_tensors(arrays),
        classes=int(max(arrays["y_train"].max(), arrays["y_val"].max())) + 1,
        normalisation=normalisation.checked(channels),
        augmentation=Augmentation(shift=min(height, width) // 8, mirror=mirror),
        digest=digest,
    )


def _check_split(path: Path, split: str, images: Any, labels: Any, input_shape: Sequence[int]) -> None:
    """Refuse arrays that are not uint8 images of the network's size with one whole-numbered label each."""
    seen = f"{path}: x_{split} is {images.dtype} {images.shape}, y_{split} is {labels.dtype} {labels.shape}"
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise InputError(seen, remedy=f"x_{split} has to be uint8 with the shape (images, height, width, channels)")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise InputError(seen, remedy=f"y_{split} has to hold one whole number an image")
    if labels.min() < 0:
        raise InputError(f"{path}: y_{split} has the label {labels.min()}", remedy="count the classes from 0")
    height, width, channels = images.shape[1:]
    if tuple(input_shape[1:]) == images.shape[1:] != (channels, height, width):
        raise InputError(
            f"{path}: x_{split} is {images.shape}, its channels first",
            remedy=f"save x_{split}.transpose(0, 2, 3, 1): (images, height, width, channels)",
        )
    if tuple(input_shape[1:]) != (channels, height, width):
        raise InputError(
            f"{path}: x_{split} holds images of {channels}x{height}x{width} and the network's input is "
            f"{'x'.join(map(str, input_shape))}",
            remedy=f"if the network takes it, give --input 1x{channels}x{height}x{width}; or resize the images",
        )


def _tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {
        key: torch.from_numpy(np.ascontiguousarray(arrays[key], np.uint8 if key[0] == "x" else np.int64))
        for key in _KEYS
    }


def _digits(normalisation: Normalisation, input_shape: Sequence[int]) -> ImageArrays:
    """Return scikit-learn's 1,797 digits (8 x 8, enlarged to 32 x 32); 500 of them, always the same, for validation."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingError(
            "the demo's digits come with scikit-learn, which is not installed", remedy="pip install 'edgeprune[demo]'"
        ) from None
    if tuple(input_shape[1:]) != (1, 32, 32):
        raise InputError(
            f"the demo's digits are 1x32x32 and the network's input is {'x'.join(map(str, input_shape))}",
            remedy="give --data for this network",
        )
    small, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(small.reshape(-1, 1, 8, 8)).float() * (255 / 16)
    enlarged = torch.nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear")
    images = enlarged.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    # The split has a seed of its own: the shipped weights have to have been trained on none of the 500.
    order = np.random.default_rng(0).permutation(len(images))
    val, train = order[:_DIGITS_VALIDATION], order[_DIGITS_VALIDATION:]
    arrays = {"x_train": images[train], "y_train": labels[train], "x_val": images[val], "y_val": labels[val]}
    return ImageArrays(
        name="demo (scikit-learn's digits)",
        **_tensors(arrays),
        classes=10,
        normalisation=normalisation.checked(1),
        # A mirrored digit is another sign: 2 becomes 5's shape, and 3 no digit at all.
        augmentation=Augmentation(shift=4, mirror=False),
        digest=hashlib.sha256(images.tobytes() + labels.astype(np.int64).tobytes()).hexdigest(),
    )
