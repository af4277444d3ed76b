from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.artifacts import bundle, contents
from edgeprune.errors import InputError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import slim
from tests.nets import Depthwise, Residual

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def saved(folder: Path) -> torch.nn.Module:
    model = Residual().eval()
    plan = WidthPlan.uniform(trace(model, X), 0.5)
    small = slim(model, plan)
    bundle.save(folder, small, plan)
    return small


def test_the_compact_network_comes_back_from_its_class(tmp_path: Path) -> None:
    small = saved(tmp_path)
    back = bundle.load(tmp_path, Residual()).eval()
    assert back.one[0].weight.shape == small.one[0].weight.shape
    with torch.no_grad():
        assert torch.equal(back(X), small(X))


def test_all_files_are_as_readable_as_one_another(tmp_path: Path) -> None:
    saved(tmp_path)
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_weights_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(InputError, match=r"model.safetensors can't be written: .*directory"):
        saved(tmp_path)


def test_another_network_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(InputError):
        bundle.load(tmp_path, Depthwise())


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    contents.write_manifest(tmp_path, {"result": {}})
    assert contents.read_manifest(tmp_path)["result"] == {}
    (tmp_path / "model.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match=r"model\.onnx was changed"):
        contents.read_manifest(tmp_path)


def test_a_page_that_is_missing_can_be_drawn_again_and_one_that_was_changed_is_refused(tmp_path: Path) -> None:
    for name in ("model.onnx", "report.html", "plan.json"):
        (tmp_path / name).write_text(name)
    contents.write_manifest(tmp_path, {"result": {}})
    (tmp_path / "report.html").unlink()
    assert "report.html" in contents.read_manifest(tmp_path)["files"]
    (tmp_path / "report.html").write_text("better numbers")
    with pytest.raises(InputError, match=r"report\.html was changed"):
        contents.read_manifest(tmp_path)
    (tmp_path / "report.html").unlink()
    (tmp_path / "plan.json").unlink()
    with pytest.raises(InputError, match=r"plan\.json is missing"):
        contents.read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a bundle"):
        contents.read_manifest(tmp_path)


def test_samples_round_trip(tmp_path: Path) -> None:
    inputs, outputs = [np.arange(6.0).reshape(2, 3)], [np.ones((2, 1)), np.zeros((2, 2))]
    contents.write_samples(tmp_path / "samples.npz", inputs, outputs)
    found_inputs, found_outputs = contents.read_samples(tmp_path / "samples.npz")
    np.testing.assert_equal(found_inputs, inputs)
    np.testing.assert_equal(found_outputs, outputs)
