from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import InputError
from edgeprune.latency import worker
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.rule import Rule
from edgeprune.runtimes.base import LayerTime
from edgeprune.targets.clocks import Finding, allowed_cores
from tests.onnx_models import residual, scale_and_shift

QUICK = Rule(warmup_s=0.01, steady_tolerance=0.5, samples_min=2, round_s=0.01, rounds=2, retries=1).to_json()


@pytest.fixture(params=["openvino", "onnxruntime"])
def arguments(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"runtime": request.param, "precision": "fp32", "threads": 1, "copies": True, "rule": QUICK, "layers_s": 0.1}


def stored(folder: Path, **models: bytes) -> dict[str, Path]:
    paths = {name: folder / f"{name}.onnx" for name in models}
    for name, content in models.items():
        paths[name].write_bytes(content)
    return paths


def test_describes_the_machine_and_the_runtime(arguments: dict[str, object], tmp_path: Path) -> None:
    found = worker.describe(arguments, stored(tmp_path, model=residual()), tmp_path)
    assert found["hardware"]["arch"]
    assert found["runtime_version"] == metadata.version(str(arguments["runtime"]))
    assert found["properties"]["threads"] == "1"
    assert found["affinity"]


def test_there_are_no_more_threads_than_cores(arguments: dict[str, object], tmp_path: Path) -> None:
    more = len(allowed_cores()) + 1
    with pytest.raises(InputError, match=f"{more} threads need as many cores; this process may use {more - 1}"):
        worker.measure({**arguments, "threads": more}, stored(tmp_path, model=residual()), tmp_path)


def test_examines_the_machine(tmp_path: Path) -> None:
    found = worker.examine({}, {}, tmp_path)
    assert [Finding.from_json(finding).to_json() for finding in found["findings"]] == found["findings"]


def test_measures_several_models_and_gives_the_cores_back(arguments: dict[str, object], tmp_path: Path) -> None:
    cores = allowed_cores()
    found = worker.measure(arguments, stored(tmp_path, small=residual(8, 8), large=residual(48, 24)), tmp_path)
    assert allowed_cores() == cores
    medians = {name: Measurement.from_json(row["measurement"]).median_ms for name, row in found.items()}
    # The large one does more than 100 times the multiplications.
    assert 0 < medians["small"] < medians["large"]
    assert found["small"]["properties"]["precision"] == "fp32"


def test_times_layers_and_the_whole(arguments: dict[str, object], tmp_path: Path) -> None:
    found = worker.layers({**arguments, "whole": []}, stored(tmp_path, one=residual()), tmp_path)["one"]
    assert Measurement.from_json(found["engine"]).median_ms > 0
    rows = [LayerTime.from_json(row) for row in found["rows"]]
    assert "layer1.0.conv1" in {node for row in rows for node in row.nodes}
    assert found["properties"]["threads"] == "1"


@pytest.mark.parametrize(("batch", "rows"), [(1, 3), (2, 4), (2, 5), (4, 1)])
def test_outputs_have_a_row_for_every_row(arguments: dict[str, object], tmp_path: Path, batch: int, rows: int) -> None:
    array = np.random.default_rng(1).standard_normal((rows, 3, 12, 12)).astype(np.float32)
    np.savez(str(tmp_path / "inputs.npz"), input=array)
    files = {**stored(tmp_path, model=residual(batch=batch), single=residual()), "inputs": tmp_path / "inputs.npz"}
    assert worker.outputs(arguments, files, tmp_path)["outputs"] == ["fc"]
    found = np.load(str(tmp_path / "outputs.npz"))["fc"]
    worker.outputs(arguments, {**files, "model": files["single"]}, tmp_path)
    one_by_one = np.load(str(tmp_path / "outputs.npz"))["fc"]
    assert found.shape == (rows, 10)
    np.testing.assert_allclose(found, one_by_one, rtol=1e-4, atol=1e-5)


def test_the_session_of_the_last_outputs_alone_is_kept(arguments: dict[str, object], tmp_path: Path) -> None:
    np.savez(str(tmp_path / "inputs.npz"), input=np.zeros((1, 3, 12, 12), np.float32))
    sessions = []
    for model in (residual(), residual(), residual(8)):
        files = {**stored(tmp_path, model=model), "inputs": tmp_path / "inputs.npz"}
        worker.outputs(arguments, files, tmp_path)
        sessions += worker._KEPT.values()
    first, second, third = sessions
    assert first is second
    assert third is not first


def test_outputs_need_an_array_for_every_input(arguments: dict[str, object], tmp_path: Path) -> None:
    np.savez(str(tmp_path / "inputs.npz"), left=np.zeros((1, 2), np.float32))
    files = {**stored(tmp_path, model=scale_and_shift()), "inputs": tmp_path / "inputs.npz"}
    with pytest.raises(InputError, match="no array for input 'right'; there is left"):
        worker.outputs(arguments, files, tmp_path)


def test_builds_an_engine(arguments: dict[str, object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = worker.build(arguments, stored(tmp_path, model=residual()), out)
    assert sorted(found["files"]) == sorted(path.name for path in out.iterdir())


def test_of_the_idle_cores_the_one_at_the_best_pace_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour on the other hardware thread of core 2 shows in no clock that can be read here."""
    pinned: list[int] = []
    paces = {2: 12.5, 5: 7.0, 7: 7.5}
    monkeypatch.setattr(worker.clocks, "quietest_cores", lambda cores: list(paces))
    monkeypatch.setattr(worker.clocks, "pin", pinned.extend)
    monkeypatch.setattr(worker, "pace_us", lambda: paces[pinned[-1]])
    monkeypatch.setattr(worker, "_LOOK_S", 0.0)
    assert worker._best_core(range(8)) == [5]
