"""Whole steps called from Python, on a device whose latency is a formula."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgeprune
from edgeprune.errors import InputError
from tests.simulated import SimulatedBench, Wide
from tests.test_pipeline import simulate

SHAPE = (1, 3, 16, 16)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimulatedBench:
    return simulate(monkeypatch, tmp_path / "tables")


def images(folder: Path) -> str:
    pixels, labels = np.zeros((64, 16, 16, 3), np.uint8), np.arange(64) % 5
    np.savez(folder / "images.npz", x_train=pixels, y_train=labels, x_val=pixels, y_val=labels)
    return str(folder / "images.npz")


def export(folder: Path, model: torch.nn.Module | None = None, **options: Any) -> dict[str, Any]:
    """Export a network and return what the bundle keeps of the request."""
    edgeprune.export(
        model or Wide(), torch.zeros(SHAPE), target="openvino", latency="60%", out=folder / "out", **options
    )
    manifest: dict[str, Any] = json.loads((folder / "out/manifest.json").read_text())
    return manifest


def test_the_parts_for_a_training_loop_are_there_at_once() -> None:
    code = "import edgeprune; edgeprune.training.rni.convert, edgeprune.training.lapp"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_named_data_are_normalised_as_asked(tmp_path: Path) -> None:
    given: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "epochs": 0, "seed": 3}
    manifest = export(tmp_path, data=images(tmp_path), **given)
    assert (manifest["source"]["mean"], manifest["source"]["std"]) == ([0.5] * 3, [0.25] * 3)
    assert manifest["job"]["seed"] == 3
    with np.load(tmp_path / "out/samples.npz") as samples:
        assert np.unique(samples["input_000"]).tolist() == [-2.0]  # (0 / 255 - 0.5) / 0.25


def test_loaders_may_be_handed_over(tmp_path: Path) -> None:
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % 5
    model = Wide()
    manifest = export(tmp_path, model, data=([(images, labels)], [(images, labels)]), epochs=0)
    right = (model.eval()(images).argmax(1) == labels).float().mean()
    assert manifest["result"]["accuracy"]["dense"] == pytest.approx(float(right))


def test_weights_that_were_never_trained_are_told_of(tmp_path: Path) -> None:
    model = Wide()
    (reason,) = export(tmp_path, model)["result"]["reasons"]
    assert reason.startswith("the network's weights are those that it was made with, never trained")
    model.stem[1].running_mean += 1
    assert export(tmp_path, model, force=True)["result"]["reasons"] == []


def test_the_caller_s_network_stays_as_it_is(tmp_path: Path) -> None:
    model = Wide().double().train()
    export(tmp_path, model)
    assert model.training
    assert model.fc.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("given", "said", "remedy"),
    [
        ({"weights": Path("w.pt")}, "weights was given, and the network is a Python object", "load them"),
        ({"input_shape": SHAPE}, "input_shape was given, and the network is a Python object", "example input"),
    ],
)
def test_what_a_python_network_brings_with_it_is_refused(
    tmp_path: Path, given: dict[str, Any], said: str, remedy: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        export(tmp_path, **given)
    assert remedy in caught.value.remedy


def test_a_lock_may_be_one_pattern(tmp_path: Path) -> None:
    assert export(tmp_path, lock="fc")["job"]["lock"] == ["fc"]


def test_a_profile_leaves_the_network_as_it_is(device: SimulatedBench) -> None:
    model = Wide().double().train()
    table = edgeprune.profile(model, torch.zeros(SHAPE, dtype=torch.float64), target="openvino")
    assert table.dense.engine_ms > 0
    assert model.training
