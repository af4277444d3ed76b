"""trtexec as a program that knows the options of one version, and what each of them does to a number."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import DeviceError, InputError, MissingError
from edgeprune.latency.typed import typed
from edgeprune.runtimes import cudart, tensorrt, trtexec
from edgeprune.runtimes.base import Session, SessionSettings
from edgeprune.runtimes.registry import find_record, open_runtime
from edgeprune.runtimes.tensorrt_plans import PlanCache
from edgeprune.runtimes.trtexec import read_times, version_of
from tests.onnx_models import residual, scale_and_shift
from tests.standins.cuda import Gpu
from tests.standins.trtexec import COMPUTE_MS, COPY_MS, OF_VERSION, runner, write

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=OF_VERSION)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def calls(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(write(tmp_path / "bin", version).parent), prepend=":")
    monkeypatch.setattr(trtexec.subprocess, "run", runner(version, tmp_path / "bin"))
    monkeypatch.setattr(cudart, "load_library", Gpu().library)
    monkeypatch.setattr(tensorrt, "_PLANS", PlanCache())
    return tmp_path / "bin" / "calls"


def opened(model: bytes, **settings: object) -> Session:
    return open_runtime("tensorrt").open(model, SessionSettings(**settings))


def test_it_stands_in_where_the_bindings_are_missing(calls: Path, version: str) -> None:
    assert importlib.util.find_spec("tensorrt") is None
    assert find_record("tensorrt").installed()
    expected = {"8503": "8.5.3", "8602": "8.6.2", "100300": "10.3.0", "110400": "11.4.0"}[version]
    assert open_runtime("tensorrt").version() == expected


@pytest.mark.parametrize("copies", [False, True])
def test_a_number_means_the_same_on_all_versions(calls: Path, copies: bool) -> None:
    session = opened(residual(), copies=copies)
    assert (session.infer() or 0) - COMPUTE_MS - copies * COPY_MS == pytest.approx(0, abs=0.03)
    assert session.properties["precision"] == "fp32"
    assert session.properties["measured_by"] == "trtexec"
    session.close()


def test_outputs_come_back_in_order(calls: Path) -> None:
    session = opened(scale_and_shift())
    assert list(session.inputs) == ["left", "right"]
    double, total = session.run([np.float32([[1, 2]]), np.float32([[10, 20]])])
    assert double.tolist() == [[2, 4]]
    assert total.tolist() == [[11, 22]]
    session.close()
    session.close()


def test_layers_have_their_nodes(calls: Path) -> None:
    session = opened(residual(), per_layer=True)
    rows = session.layer_times(10)
    of = {node: row for row in rows for node in row.nodes}
    assert of["layer1.0.conv2"].nodes == ("layer1.0.conv2", "layer1.0.add", "layer1.0.relu_1")
    assert rows[0].kind == "Reformat"
    assert session.report["unattributed_share"] == "0.0%"
    with pytest.raises(InputError, match="per-layer"):
        opened(residual()).layer_times(10)


def test_fp16_and_the_engine_that_is_kept(calls: Path, tmp_path: Path) -> None:
    model = typed(residual(), "fp16")
    settings = SessionSettings("fp16")
    (path,) = open_runtime("tensorrt").save_engine(model, tmp_path / "engine", settings)
    assert path.suffix == ".plan"
    builds = calls.read_text().count("--saveEngine")
    session = opened(model, precision="fp16")
    assert session.properties["precision"] == "fp16"
    assert calls.read_text().count("--saveEngine") == builds == tensorrt.BUILDS
    assert session.report["builds"] == str(tensorrt.BUILDS)


def test_a_model_that_fails_says_why(calls: Path) -> None:
    broken = bytearray(residual())
    broken[broken.index(b"GlobalAveragePool") : broken.index(b"GlobalAveragePool") + 6] = b"Nowhere"[:6]
    with pytest.raises(DeviceError, match=r"trtexec failed: .*Nowher"):
        opened(bytes(broken))


def test_without_either_there_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trtexec, "PLACES", ())
    with pytest.raises(MissingError, match="neither") as caught:
        trtexec.Trtexec()
    assert "apt install" in caught.value.remedy


def test_it_is_a_program_that_is_run(tmp_path: Path) -> None:
    program = trtexec.Trtexec(str(write(tmp_path, "8602")))
    assert program.version() == "8.6.2"
    with pytest.raises(DeviceError, match="Unknown option: --fast"):
        program.run("--fast")


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8412] # trtexec --onnx=a.onnx --int8", (8, 4, 12)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8503] # /usr/src/tensorrt/bin/trtexec", (8, 5, 3)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b1] # trtexec", (10, 3, 0)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101602] # trtexec", (10, 16, 2)),
        ("noise\n&&&& RUNNING TensorRT.trtexec [TensorRT v110400] # trtexec", (11, 4, 0)),
    ],
)
def test_reads_the_version(line: str, version: tuple[int, int, int]) -> None:
    assert version_of(line) == version


def test_reads_times() -> None:
    text = (GOLDEN / "times-10.3.json").read_text()
    assert read_times(text, copies=False) == [1.0, 1.1]
    assert read_times(text, copies=True) == [1.05, 1.15]
