import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.errors import InputError, MissingError
from edgeprune.training.data import load_data
from edgeprune.training.images import Share
from edgeprune.training.loaders import paired

SHAPE = (1, 3, 8, 8)


def content(**changed: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    arrays = {
        "x_train": random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_val": random.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
        "y_val": np.array([3, 0], dtype=np.uint8),
    }
    return {key: value for key, value in (arrays | changed).items() if value is not None}


def saved(folder: Path, **changed: Any) -> Path:
    path = folder / "images.npz"
    np.savez(path, **content(**changed))
    return path


def test_npz(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path), mean=(0, 0, 0), std=(1, 1, 1), input_shape=SHAPE)
    assert (data.train_size, data.val_size, data.classes) == (6, 2, 4)  # label 3 occurs in y_val only
    x, y = next(iter(data.val_batches(2)))
    torch.testing.assert_close(x[1], torch.from_numpy(content()["x_val"][1]).permute(2, 0, 1) / 255)
    assert y.tolist() == [3, 0]
    assert y.dtype == torch.int64


def test_the_digest_of_an_npz_is_that_of_its_bytes(tmp_path: Path) -> None:
    import hashlib

    path = saved(tmp_path)
    assert load_data(path, input_shape=SHAPE).digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"y_train": None, "y_val": None}, "has no y_train, y_val; it has x_train, x_val"),
        ({"x_val": np.zeros((2, 8, 8, 3), np.float32)}, r"x_val is float32 \(2, 8, 8, 3\)"),
        ({"x_train": np.zeros((6, 8, 8), np.uint8)}, r"x_train is uint8 \(6, 8, 8\)"),
        (
            {"x_train": np.zeros((0, 8, 8, 3), np.uint8), "y_train": np.zeros(0, int)},
            r"x_train is uint8 \(0, 8, 8, 3\)",
        ),
        ({"y_train": np.zeros(5, int)}, r"y_train is int64 \(5,\)"),
        ({"y_val": np.zeros((2, 4))}, r"y_val is float64 \(2, 4\)"),
        ({"y_val": np.array([-1, 0])}, "y_val has the label -1"),
        ({"x_val": np.zeros((2, 9, 8, 3), np.uint8)}, "x_val holds images of 3x9x8 and the network's input is 1x3x8x8"),
        ({"x_val": np.zeros((2, 3, 8, 8), np.uint8)}, r"x_val is \(2, 3, 8, 8\), its channels first"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_data(saved(tmp_path, **changed), input_shape=SHAPE)


def test_arrays_of_objects_are_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plain arrays"):
        load_data(saved(tmp_path, y_val=np.array([0, None], dtype=object)), input_shape=SHAPE)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "images.npz"
    text.write_text("no arrays")
    with pytest.raises(InputError, match="cannot be read as an npz"):
        load_data(text, input_shape=SHAPE)
    single = tmp_path / "images.npy"
    np.save(single, np.zeros(3))
    with pytest.raises(InputError, match="it has no named arrays"):
        load_data(single, input_shape=SHAPE)


def test_a_source_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="'nowhere' does not exist"):
        load_data("nowhere", input_shape=SHAPE)


def test_the_demo_is_always_split_in_the_same_way() -> None:
    data = load_data("demo", input_shape=(1, 1, 32, 32), seed=1)
    assert (data.train_size, data.val_size, data.classes) == (1297, 500, 10)
    images, labels = next(iter(data.val_batches(500)))
    again = next(iter(load_data("demo", input_shape=(1, 1, 32, 32), seed=2).val_batches(500)))
    assert torch.equal(images, again[0])
    assert torch.equal(labels, again[1])
    assert images.shape == (500, 1, 32, 32)
    assert "never mirrored" in data.description


def test_the_demo_brings_its_own_normalisation() -> None:
    data = load_data("demo", input_shape=(1, 1, 32, 32))
    images = torch.cat([x for x, _ in data.calibration(1297, seed=0)])
    assert abs(float(images.mean())) < 0.01
    assert abs(float(images.std()) - 1) < 0.01
    plain = load_data("demo", mean=(0,), std=(1,), input_shape=(1, 1, 32, 32))
    assert float(torch.cat([x for x, _ in plain.calibration(64, seed=0)]).min()) == 0


def test_the_demo_needs_a_network_of_its_size() -> None:
    with pytest.raises(InputError, match="1x32x32"):
        load_data("demo", input_shape=(1, 3, 224, 224))


def test_the_demo_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingError) as caught:
        load_data("demo", input_shape=(1, 1, 32, 32))
    assert "edgeprune[demo]" in caught.value.remedy


LOADERS = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def good():
    sets = (TensorDataset(torch.arange(n).float().view(n, 1, 1, 1), torch.arange(n) % 3) for n in (10, 4))
    train, val = sets
    return DataLoader(train, batch_size=4, shuffle=True), DataLoader(val, batch_size=3)

def one():
    return good()[0]

def endless():
    return (x for x in ()), (x for x in ())

def empty():
    return [], []

def unlabelled():
    return [torch.zeros(2, 1, 1, 1)], [torch.zeros(2, 1, 1, 1)]

def bytes_in():
    batch = (torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    return [batch], [batch]

def doubles():
    batch = (torch.zeros(2, 1, 1, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    return [batch], [batch]

def larger():
    batch = (torch.zeros(2, 1, 1, 2), torch.zeros(2, dtype=torch.int64))
    return good()[0], [batch]

class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, at):
        raise ValueError(f"no image {at}")

def broken():
    return DataLoader(Broken(), batch_size=2), DataLoader(Broken(), batch_size=2)

def broken_elsewhere():
    loader = DataLoader(Broken(), batch_size=2, num_workers=1)
    return loader, loader

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 1, 1), 0

def streams():
    return DataLoader(Stream()), DataLoader(Stream())

class Fails:
    def __init__(self, batches, after):
        self.batches, self.after, self.read = batches, after, 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            self.read += 1
            if self.read > self.after:
                raise OSError("the disk is gone")
            yield batch

def fails_later():
    train, val = good()
    return Fails(list(train), 1), val
"""


@pytest.fixture
def loaders(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(LOADERS)
    return path


def test_loaders_of_the_users_own(loaders: Path) -> None:
    data = load_data(f"{loaders}:good", input_shape=(1, 1, 1, 1))
    assert (data.train_size, data.val_size, data.classes) == (10, 4, 3)
    assert data.train_steps(99) == 3  # 10 images in their batches of 4
    assert [len(y) for _, y in data.val_batches(99)] == [3, 1]
    assert [len(y) for _, y in data.calibration(5, seed=0)] == [4, 1]
    first, again = (data.calibration(10, seed=3) for _ in range(2))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, again, strict=True))


def test_other_images_behind_the_same_code_are_other_data(loaders: Path) -> None:
    one, same = (load_data(f"{loaders}:good", input_shape=(1, 1, 1, 1)).digest for _ in range(2))
    assert one == same
    x, y = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])

    def digest(train: Any, val: Any) -> str:
        return paired("data", lambda: (train, val), (1, 1, 1, 1), seed=0).digest

    assert digest([(x, y)], [(x, y)]) == digest([(x, y)], [(x, y)])
    others = [digest([(x, y)], [(x + 1, y)]), digest([(x, y)], [(x, 1 - y)]), digest([(x, y)] * 2, [(x, y)])]
    assert len({digest([(x, y)], [(x, y)]), *others}) == 4


def test_a_share_of_one_image_is_left_out(loaders: Path) -> None:
    """Of it a BatchNorm has no statistics: batches of 4, 4 and 2 for two processes."""
    data = load_data(f"{loaders}:good", input_shape=(1, 1, 1, 1))
    assert [len(y) for _, y in data.train_batches(99, 0, 0)] == [4, 4, 2]
    assert [len(y) for _, y in data.train_batches(99, 0, 0, share=Share(1, 2))] == [2, 2]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("one", "returned DataLoader, not two loaders"),
        ("endless", "returned a generator, which has no length"),
        ("empty", "loader without a batch"),
        ("unlabelled", "no pair of tensors"),
        ("bytes_in", "torch.uint8"),
        ("doubles", "torch.float64"),
        ("larger", r"own\.py:larger has a batch of 2x1x1x2 and the network's input is 1x1x1x1"),
        ("streams", "returned a DataLoader, which has no length"),
        ("broken", r"own\.py:39 raised ValueError: no image 0, while batches of .*own\.py:broken were read"),
        ("broken_elsewhere", r"raised ValueError: no image 0, while batches of .*own\.py:broken_elsewhere"),
    ],
)
def test_loaders_that_do_not_fit_are_refused(loaders: Path, function: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_data(f"{loaders}:{function}", input_shape=(1, 1, 1, 1))


def test_a_loader_that_fails_later_is_told_as_well(loaders: Path) -> None:
    data = load_data(f"{loaders}:fails_later", input_shape=(1, 1, 1, 1))
    for read in (lambda: data.calibration(5, seed=0), lambda: list(data.train_batches(4, 0, 0))):
        with pytest.raises(InputError, match=r"own\.py:\d+ raised OSError: the disk is gone, while batches of .*later"):
            read()


def test_mirroring_may_be_left_out(tmp_path: Path, loaders: Path) -> None:
    """Images whose left half is black: without mirroring, and but for the shift by 1 pixel, it stays so."""
    pixels = np.zeros((64, 8, 8, 3), np.uint8)
    pixels[:, :, 4:] = 255
    path = saved(tmp_path, x_train=pixels, y_train=np.zeros(64, np.int64), x_val=pixels, y_val=np.zeros(64, np.int64))
    left = {}
    for mirror in (True, False):
        data = load_data(path, mirror=mirror, input_shape=(1, 3, 8, 8))
        assert ("never mirrored" in data.description) != mirror
        ((images, _),) = data.train_batches(64, 0, 0)
        left[mirror] = float(images[:, :, :, :3].max())
    assert left == {True: 1.0, False: 0.0}
    with pytest.raises(InputError, match=r"--no-mirror was given, and .* varies its images by itself"):
        load_data(f"{loaders}:good", mirror=False, input_shape=(1, 1, 1, 1))


def test_loaders_take_no_mean(loaders: Path) -> None:
    with pytest.raises(InputError, match="numbers already"):
        load_data(f"{loaders}:good", mean=(0.5,), input_shape=(1, 1, 1, 1))
