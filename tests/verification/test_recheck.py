from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.artifacts.contents import file_digest
from edgeprune.progress import Silent
from edgeprune.verification.recheck import data_of
from tests.listening import Listening


@pytest.fixture
def manifest(tmp_path: Path) -> dict[str, Any]:
    """Of a bundle made from another bundle, which brought data and normalisation: the request names neither."""
    images, labels = np.full((2, 4, 4, 1), 51, np.uint8), np.zeros(2, np.int64)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_val=images, y_val=labels)
    source = {"data": str(tmp_path / "data.npz"), "input": "1x1x4x4", "mean": [0.5], "std": [0.1]}
    job = {"data": None, "mean": None, "std": None, "seed": 0, "data_digest": file_digest(tmp_path / "data.npz")}
    return {"job": job, "source": source}


def test_the_data_are_those_that_the_network_brought(manifest: dict[str, Any]) -> None:
    data = data_of(manifest, Silent())
    assert data is not None
    images, _ = next(iter(data.val_batches(1)))
    assert images.unique().tolist() == pytest.approx([-3])  # (51 / 255 - 0.5) / 0.1


def test_other_images_under_the_same_name_check_nothing(manifest: dict[str, Any]) -> None:
    manifest["job"]["data_digest"] = "aa"
    progress = Listening()
    assert data_of(manifest, progress) is None
    assert "data.npz holds other images than those that the bundle was made with" in progress.said[0]


def test_data_that_are_gone_check_nothing(manifest: dict[str, Any]) -> None:
    Path(manifest["source"]["data"]).unlink()
    progress = Listening()
    assert data_of(manifest, progress) is None
    assert "does not exist" in progress.said[0]
