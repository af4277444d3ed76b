from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeprune.errors import InputError
from edgeprune.training.folders import ImageFolders
from edgeprune.training.images import Normalisation

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with pictures of one colour a class: six for training, two for validation, of odd sizes."""
    for split, count in (("train", 6), ("val", 2)):
        for name, colour in COLOURS.items():
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (20 + number, 13), colour).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def open_folder(folder: Path) -> ImageFolders:
    return ImageFolders(folder, (1, 3, 8, 8), Normalisation())


def test_sizes_classes_and_batches(folder: Path) -> None:
    data = open_folder(folder)
    assert (data.classes, data.train_size, data.val_size) == (2, 12, 4)
    assert data.train_steps(4) == 3
    batches = list(data.val_batches(3))
    assert [tuple(x.shape) for x, _ in batches] == [(3, 3, 8, 8), (1, 3, 8, 8)]
    for x, y in batches:  # blue is class 0: its third channel is 1 everywhere, and its first 0
        assert torch.equal(x[:, 0, 0, 0], y.float())
        assert torch.equal(x[:, 2, 4, 4], 1 - y.float())


def test_an_epoch_has_every_picture_and_comes_again_the_same(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (13, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "train" / "red" / "0.png")
    data = open_folder(folder)
    first, again, other = (list(data.train_batches(4, epoch=epoch, seed=0)) for epoch in (0, 0, 1))
    labels = torch.cat([y for _, y in first])
    assert sorted(labels.tolist()) == [0] * 6 + [1] * 6
    for (x, y), (same_x, same_y) in zip(first, again, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(y, same_y)
    assert not torch.equal(torch.cat([x for x, _ in first]), torch.cat([x for x, _ in other]))


def test_pictures_are_mirrored_unless_that_is_left_out(folder: Path) -> None:
    """They become brighter from left to right, also in every crop of theirs that is not mirrored."""
    rising = np.repeat(np.arange(0, 240, 12, dtype=np.uint8)[None, :, None], 13, 0).repeat(3, 2)
    for path in folder.glob("train/*/*.png"):
        Image.fromarray(rising).save(path)
    for mirror in (True, False):
        data = ImageFolders(folder, (1, 3, 8, 8), Normalisation(), mirror=mirror)
        images = torch.cat([x for x, _ in data.train_batches(4, 0, 0)])
        assert bool((images[..., 0] <= images[..., -1]).all()) != mirror
        assert ("never mirrored" in data.description) != mirror


def test_grey_networks_get_grey_pictures(folder: Path) -> None:
    data = ImageFolders(folder, (1, 1, 8, 8), Normalisation((0.5,), (0.5,)))
    x, _ = next(iter(data.val_batches(2)))
    assert x.shape == (2, 1, 8, 8)


def test_calibration_is_some_training_pictures(folder: Path) -> None:
    assert sum(len(y) for _, y in open_folder(folder).calibration(5, seed=0)) == 5


def test_the_digest_changes_with_the_pictures(folder: Path) -> None:
    before = open_folder(folder).digest
    assert open_folder(folder).digest == before
    Image.new("RGB", (99, 99)).save(folder / "val" / "red" / "0.png")
    assert open_folder(folder).digest != before


def test_a_file_that_is_no_picture_is_named(folder: Path) -> None:
    (folder / "val" / "red" / "0.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"red/0\.png cannot be read as an image"):
        list(open_folder(folder).val_batches(2))


def test_a_missing_part_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "val").rename(folder / "test")
    with pytest.raises(InputError, match="val is not a folder of images") as missing:
        open_folder(folder)
    assert not missing.value.message.endswith(".")


def test_classes_that_differ_are_named(folder: Path) -> None:
    (folder / "val" / "red").rename(folder / "val" / "green")
    with pytest.raises(InputError, match="differ in their classes: green, red"):
        open_folder(folder)


def test_inputs_that_are_no_pictures_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="1x12x8x8"):
        ImageFolders(folder, (1, 12, 8, 8), Normalisation())
