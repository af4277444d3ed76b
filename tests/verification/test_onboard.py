"""A bundle that checks itself: with ONNX Runtime for real, with TensorRT on the stand-in of its bindings."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgeprune import pipeline
from edgeprune.artifacts.contents import rewrite_page, write_manifest, write_samples
from edgeprune.artifacts.verifier import write_verifier
from edgeprune.errors import InputError
from edgeprune.latency import worker
from edgeprune.latency.rule import Rule
from edgeprune.latency.typed import typed
from edgeprune.targets.clocks import CpuTimes
from edgeprune.verification import onboard
from edgeprune.verification.numerics import INCOMPARABLE
from tests.onnx_models import residual
from tests.standins.board import Board, install_board

QUICK = Rule(warmup_s=0.01, steady_tolerance=0.5, samples_min=2, round_s=0.01, rounds=2, retries=1, rounds_max=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onboard, "FINAL", QUICK)
    monkeypatch.setattr(onboard, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(worker, "_KEPT", {})
    monkeypatch.setattr(CpuTimes, "others_since", lambda self, before: 0.0)  # what else runs here decides nothing


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Make a bundle of a runtime and a precision, without a network or a training."""

    def make(runtime: str = "onnxruntime", precision: str = "fp32", budget_ms: float = 1e4) -> Path:
        folder = tmp_path / "bundle"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(typed(residual(), precision))
        rows = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)
        session = onnxruntime.InferenceSession(residual(), providers=["CPUExecutionProvider"])
        write_samples(
            folder / "samples.npz",
            [rows],
            [np.concatenate([session.run(None, {"input": row[None]})[0] for row in rows])],
        )
        write_verifier(folder)
        result = {
            "target": runtime,
            "fingerprint": {"runtime": runtime, "precision": precision, "threads": "1"},
            "latency_ms": {"budget": budget_ms, "dense": 2.0, "measured": 1.0},
            "accuracy": {"dense": None},
        }
        write_manifest(folder, {"job": {"target": runtime}, "result": result})
        return folder

    return make


@pytest.fixture(params=["8.6.1", "11.4.0.106"])
def board(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return install_board(request.param, tmp_path, monkeypatch)


def test_a_bundle_checks_itself_and_the_verdict_is_taken_back(
    bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle()
    assert onboard.main(folder, ["--out", str(tmp_path / "verdict.json")]) in (0, 8)  # 8 where this machine was busy
    printed = capsys.readouterr().out
    assert "onnxruntime" in printed
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert written["schema"] == "edgeprune.verdict/1"
    assert written["numerics"]["engine_vs_torch"] < 1e-5
    result = pipeline.verify(folder, verdict=tmp_path / "verdict.json")
    document = result.to_json()
    assert result.exit_code == 8
    assert pipeline.verify(folder, verdict=tmp_path / "verdict.json", allow_unverified=True).exit_code == 0
    assert document["latency_ms"]["measured"] == written["measurement"]["median_ms"]
    assert document["fingerprint"]["runtime_version"] == onnxruntime.__version__
    assert any("not that of the export" in reason for reason in document["reasons"])


def test_a_tensorrt_bundle_builds_its_engine_where_it_lies(
    bundle: Callable[..., Path], board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle("tensorrt", "fp16")
    assert onboard.main(folder, []) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("MET: ")
    assert "builds_spread" in printed
    (plan,) = (folder / "engine").iterdir()
    written = json.loads((folder / "verdict.json").read_text())
    assert list(written["engine"]) == [plan.name]
    assert written["fingerprint"]["l4t"] == "36.4.3"
    assert 0 < written["numerics"]["engine_vs_torch"] < 0.02
    document = pipeline.verify(folder, verdict=folder / "verdict.json").to_json()
    # The bundle's fingerprint names no board, so that this one is another.
    assert (document["status"], document["engine"]["builds"]) == ("unverified", "3")


def test_a_throttled_board_certifies_nothing(bundle: Callable[..., Path], board: Board) -> None:
    board.held_back = ("thermal slowdown",)
    folder = bundle("tensorrt", "fp16")
    assert onboard.main(folder, []) == 8
    result = pipeline.verify(folder, verdict=folder / "verdict.json")
    assert result.exit_code == 8
    first = result.to_json()["reasons"][0]
    assert " was measured and is not to be trusted: the GPU was held back: thermal slowdown; measure it again" in first


def test_layers_and_the_whole_through_the_worker(board: Board, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(residual())
    arguments = {"runtime": "tensorrt", "precision": "fp32", "threads": 1, "copies": False, "rule": QUICK.to_json()}
    found = worker.layers({**arguments, "layers_s": 0.01, "whole": []}, {"one": path}, tmp_path)["one"]
    rows_ms = sum(row["us"] for row in found["rows"]) / 1e3
    # The stand-in's engine takes 90 % of what its layers take one by one; the number is its own clock's.
    assert found["engine"]["median_ms"] == pytest.approx(0.9 * rows_ms, rel=1e-3)
    assert found["engine"]["trusted"]
    assert found["report"]["gpu_mhz"] == "918 MHz"
    assert found["report"]["reformat_share"].endswith("%")


@pytest.mark.parametrize(("budget_ms", "code"), [(1e4, 0), (1e-6, 5)])
def test_the_budget_decides(bundle: Callable[..., Path], board: Board, budget_ms: float, code: int) -> None:
    assert onboard.main(bundle("tensorrt", "fp32", budget_ms), []) == code


def test_nothing_is_overwritten_and_nothing_changed_is_checked(
    bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle()
    (folder / "verdict.json").write_text("mine")
    assert onboard.main(folder, []) == 2
    assert "--force" in capsys.readouterr().err
    (folder / "model.onnx").write_bytes(residual(8))
    assert onboard.main(folder, ["--force"]) == 2
    assert "was changed" in capsys.readouterr().err


def test_where_nothing_can_be_written_nothing_is_measured(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle()
    monkeypatch.setattr(worker, "measure", lambda *_: pytest.fail("it was measured"))
    for out, said in ((folder / "model.onnx" / "verdict.json", "model.onnx"), (folder, f"{folder} is a folder")):
        assert onboard.main(folder, ["--out", str(out), "--force"]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert said in err
        assert "--out FILE" in err
        assert err.count("\n") == 1


def test_a_disk_that_is_full_at_the_end_is_one_line(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(onboard, "write_json", write)
    assert onboard.main(bundle(), []) == 2
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert err.count("\n") == 1


def test_an_engine_that_cannot_be_kept_is_measured_all_the_same(
    bundle: Callable[..., Path], board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle("tensorrt", "fp16")
    (folder / "engine").touch()  # no folder can be made there
    assert onboard.main(folder, ["--out", str(tmp_path / "verdict.json")]) == 0
    assert "note: the engine is not kept" in capsys.readouterr().err


def test_the_script_without_numpy_is_one_line(bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = bundle()
    (tmp_path / "site").mkdir()
    (tmp_path / "site/numpy.py").write_text("raise ImportError('not\\nhere')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, str(folder / "verify.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: numpy can't be imported: not here; {sys.executable} -m pip install numpy\n"


def test_a_verdict_that_was_changed_or_is_of_another_bundle_is_refused(bundle: Callable[..., Path]) -> None:
    folder = bundle()
    onboard.main(folder, [])
    path = folder / "verdict.json"
    content = json.loads(path.read_text())
    better = {**content, "measurement": {**content["measurement"], "median_ms": 0.001}}
    path.write_text(json.dumps(better))
    with pytest.raises(InputError, match="was changed since"):
        onboard.read_verdict(path, folder)
    path.write_text(json.dumps({"schema": content["schema"], **onboard.sealed({**content, "model": "0" * 64})}))
    with pytest.raises(InputError, match=r"of another bundle: its model differs"):
        onboard.read_verdict(path, folder)


def test_outputs_that_are_no_numbers_are_taken_back_as_that(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle()
    monkeypatch.setattr(onboard, "_difference", lambda *rest: INCOMPARABLE)
    assert onboard.main(folder, []) == 7
    taken = onboard.read_verdict(folder / "verdict.json", folder)
    assert taken["numerics"] == {"engine_vs_torch": INCOMPARABLE}


def test_what_passes_is_waited_for_and_what_lasts_is_not(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onboard, "_PATIENCE_S", 60.0)
    usual, times = worker.measure, []

    def measure(*given: Any) -> Any:
        found = usual(*given)
        times.append(found)
        busy = {"trusted": len(times) > 2, "reason": "a test made it busy", "lasting": lasting}
        return {"model": {**found["model"], "measurement": {**found["model"]["measurement"], **busy}}}

    monkeypatch.setattr(worker, "measure", measure)
    folder, lasting = bundle(), False
    assert onboard.main(folder, []) == 0
    assert len(times) == 3
    times.clear()
    lasting = True
    assert onboard.main(folder, ["--force"]) == 8
    assert len(times) == 1


def test_a_page_that_is_drawn_anew_leaves_verdicts_as_they_are(bundle: Callable[..., Path]) -> None:
    folder = bundle()
    onboard.main(folder, [])
    rewrite_page(folder, b"<p>Drawn anew.</p>")
    assert onboard.read_verdict(folder / "verdict.json", folder)


def test_a_runtime_that_cannot_be_imported_is_one_line(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle()

    def broken(*given: Any) -> Any:
        raise ImportError("libnvinfer.so.8: no such file", name="tensorrt")

    monkeypatch.setattr(worker, "describe", broken)
    assert onboard.main(folder, []) == 3
    assert capsys.readouterr().err.startswith("error: this Python can't import tensorrt: libnvinfer.so.8")


def test_the_modules_come_from_the_bundle_alone(bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = bundle()
    code = (
        "import runpy, sys\n"
        f"runpy.run_path({str(folder / 'verify.py')!r}, run_name='imported')\n"
        "ours = {m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'edgeprune'}\n"
        f"assert all(one.startswith({str(folder / 'verify.zip')!r}) for one in ours), ours\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'scipy', 'typer'}\n"
        "assert not heavy & {n.split('.')[0] for n in sys.modules}\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_script_as_a_person_runs_it(bundle: Callable[..., Path], tmp_path: Path) -> None:
    """python -m pytest -m slow tests/verification/test_onboard.py"""
    folder = bundle()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(folder / "verify.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    # 8 where this machine was too busy for the number to be trusted.
    assert done.returncode in (0, 8), done.stderr
    assert (folder / "verdict.json").is_file()
    assert "Engine to PyTorch" in done.stdout
