from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.artifacts.contents import file_digest, read_manifest, write_manifest
from edgeprune.errors import InputError
from edgeprune.progress import SILENT
from edgeprune.training.data import load_data
from edgeprune.verification.recheck import Recheck, data_of, recheck
from tests.simulated import SimulatedBench

CODE = """import torch

print("executed")


def loaders():
    batches = [(torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64))]
    return batches, batches
"""


@pytest.fixture
def manifest(tmp_path: Path) -> dict[str, Any]:
    """Of a bundle made from another bundle, which brought data and normalisation: the request names neither."""
    images, labels = np.full((2, 4, 4, 1), 51, np.uint8), np.zeros(2, np.int64)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_val=images, y_val=labels)
    source = {"data": str(tmp_path / "data.npz"), "input": "1x1x4x4", "mean": [0.5], "std": [0.1]}
    job = {"data": None, "mean": None, "std": None, "seed": 0, "data_digest": file_digest(tmp_path / "data.npz")}
    return {"job": job, "source": source}


@pytest.fixture
def checked(bundle: Path, tmp_path: Path) -> Callable[..., Recheck]:
    """Check a copy of a bundle whose manifest has another job, source and result, on a device that is a formula."""

    def check(bench: SimulatedBench | None = None, **options: Any) -> Recheck:
        folder = tmp_path / "bundle"
        shutil.copytree(bundle, folder)
        manifest = {name: value for name, value in read_manifest(folder).items() if name not in ("schema", "files")}
        for part in ("job", "source", "result"):
            manifest[part].update(options.pop(part, {}))
        write_manifest(folder, manifest)
        return recheck(folder, read_manifest(folder), bench or SimulatedBench(), SILENT, **options)  # type: ignore[arg-type]

    return check


def test_the_data_are_those_that_the_network_brought(manifest: dict[str, Any]) -> None:
    data, unjudged = data_of(manifest)
    assert data is not None
    assert unjudged == ""
    images, _ = next(iter(data.val_batches(1)))
    assert images.unique().tolist() == pytest.approx([-3])  # (51 / 255 - 0.5) / 0.1


def test_other_images_under_the_same_name_check_nothing(manifest: dict[str, Any]) -> None:
    manifest["job"]["data_digest"] = "aa"
    data, unjudged = data_of(manifest)
    assert data is None
    assert "data.npz holds other images than those that the bundle was made with" in unjudged


def test_data_that_were_moved_are_named(manifest: dict[str, Any]) -> None:
    before = Path(manifest["source"]["data"])
    now = before.rename(before.with_name("moved.npz"))
    data, unjudged = data_of(manifest)
    assert data is None
    assert unjudged.endswith("data.npz' does not exist; say with --data where they are now")
    assert data_of(manifest, str(now))[0] is not None


def test_data_that_were_a_python_object_are_named(manifest: dict[str, Any]) -> None:
    named, manifest["source"]["data"] = manifest["source"]["data"], None
    said = "the images were a Python object, which nothing names; say with --data where they are now"
    assert data_of(manifest) == (None, said)
    assert data_of(manifest, named)[0] is not None


def test_data_that_were_named_are_those_of_the_bundle_or_an_error(manifest: dict[str, Any]) -> None:
    named = manifest["source"]["data"]
    with pytest.raises(InputError, match="'gone' does not exist"):
        data_of(manifest, "gone")
    manifest["job"]["data_digest"] = "aa"
    with pytest.raises(InputError, match="holds other images"):
        data_of(manifest, named)
    manifest["job"]["data_digest"] = None
    assert data_of(manifest) == (None, "")
    with pytest.raises(InputError, match="made without data"):
        data_of(manifest, named)


def test_code_is_executed_only_where_it_is_named(
    manifest: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "images.py"
    code.write_text(CODE)
    manifest["source"].update(data=f"{code}:loaders", mean=None, std=None, input="1x3x16x16")
    manifest["job"]["data_digest"] = load_data(f"{code}:loaders", input_shape=(1, 3, 16, 16)).digest
    assert capsys.readouterr().out == "executed\n"
    data, unjudged = data_of(manifest)
    assert data is None
    assert unjudged.endswith(f"is executed only where it is named; add --data {code}:loaders")
    assert capsys.readouterr().out == ""
    assert data_of(manifest, f"{code}:loaders")[0] is not None
    assert capsys.readouterr().out == "executed\n"


def test_accuracy_that_was_promised_and_can_t_be_judged_is_no_silent_success(checked: Callable[..., Recheck]) -> None:
    made = {"data": "gone.npz", "data_digest": "aa", "max_drop": 1.5}
    found = checked(job=made, source={"data": "gone.npz"}, result={"accuracy": {"dense": 0.9, "pruned": 0.9}})
    assert (found.verdict.status, found.verdict.exit_code) == ("met", 3)
    (reason,) = found.verdict.reasons
    assert reason.startswith("accuracy is not verified, and may fall by 1.5 points at most: data 'gone.npz' does not")
    assert reason.endswith("; say with --data where they are now")


def test_accuracy_that_was_not_promised_is_told(checked: Callable[..., Recheck]) -> None:
    made = {"data": "gone.npz", "data_digest": "aa"}
    found = checked(job=made, source={"data": "gone.npz"}, result={"accuracy": {"dense": 0.9, "pruned": 0.9}})
    assert found.verdict.exit_code == 0
    assert [reason.partition(":")[0] for reason in found.verdict.reasons] == ["accuracy is not checked"]


def test_another_device_does_not_verify_the_budget(bundle: Path, checked: Callable[..., Recheck]) -> None:
    fingerprint = {**json.loads((bundle / "manifest.json").read_text())["result"]["fingerprint"], "device": "board"}
    found = checked(result={"fingerprint": fingerprint})
    assert (found.verdict.status, found.verdict.exit_code) == ("unverified", 8)
    assert "is not that of the export: device: board -> formula;" in found.verdict.reasons[0]


def test_another_version_of_the_runtime_is_told(checked: Callable[..., Recheck]) -> None:
    found = checked(SimulatedBench(version="2"))
    assert (found.verdict.status, found.verdict.exit_code) == ("met", 0)
    assert found.verdict.reasons == ("the software is not that of the export: runtime_version: 1 -> 2",)


def test_the_same_device_has_nothing_to_tell(checked: Callable[..., Recheck]) -> None:
    found = checked()
    assert (found.verdict.status, found.verdict.exit_code, found.verdict.reasons) == ("met", 0, ())
