"""TensorRT's runtime on a stand-in that has the members of each version's bindings and no others.

What this can show is that the code calls what is there, in an order that works, and reads what comes back. No time in
here is a GPU's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import DeviceError, InputError, MissingError
from edgeprune.latency.quantized import quantized
from edgeprune.runtimes import cudart, tensorrt, tensorrt_build
from edgeprune.runtimes.base import Session, SessionSettings
from edgeprune.runtimes.registry import open_runtime
from edgeprune.runtimes.tensorrt_plans import PlanCache, TimingCache
from edgeprune.runtimes.tensorrt_session import TensorRTSession
from tests.contracts.runtime_contract import QuantizedContract
from tests.onnx_models import residual, scale_and_shift
from tests.standins.cuda import BYTES_PER_MS, Gpu
from tests.standins.tensorrt import VERSIONS, install

RESIDUAL_INPUT = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def gpu(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    install(version, gpu, tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(cudart, "load_library", gpu.library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt, "_PLANS", PlanCache())
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    del sys.modules["tensorrt"]
    return gpu


def strong(version: str) -> bool:
    return int(version.partition(".")[0]) >= 10


class TestTensorRT(QuantizedContract):
    name = "tensorrt"
    convolution = "CaskConvolution"

    def test_several_threads(self) -> None:
        """One thread of the host starts the work; there are no others to ask for."""
        with pytest.raises(InputError, match="2 threads"):
            self.open(residual(), threads=2)


def opened(model: bytes | None = None, **settings: object) -> Session:
    return open_runtime("tensorrt").open(model or residual(), SessionSettings(**settings))


def half(model: bytes) -> bytes:
    from edgeprune.latency.typed import typed

    return typed(model, "fp16")


def test_fp32_is_not_tf32(version: str, gpu: Gpu) -> None:
    session = opened()
    assert session.properties["precision"] == "fp32"
    assert session.properties["tf32"] == "off"
    assert session.properties["typing"] == ("strong" if strong(version) else "weak")


def test_fp16_comes_from_the_model_or_on_8_from_a_flag(version: str) -> None:
    session = opened(half(residual()), precision="fp16")
    assert session.properties["precision"] == "fp16"
    assert session.input_types == {"input": "float32"}
    expected = opened(residual()).run([RESIDUAL_INPUT])[0]
    np.testing.assert_allclose(session.run([RESIDUAL_INPUT])[0], expected, atol=0.02 * np.abs(expected).max())
    if strong(version):
        with pytest.raises(InputError, match="takes the types of the ONNX file") as caught:
            opened(residual(), precision="fp16")
        assert "--precision fp16" in caught.value.remedy
    else:
        assert opened(residual(), precision="fp16").properties["precision"] == "fp16"


def test_int8_is_told_by_the_model_and_the_rest_is_half(version: str) -> None:
    """On 8 a flag allows the rest half precision; from 10 on the file says it, scales included."""
    model = quantized(residual(), "symmetric", RESIDUAL_INPUT)
    session = opened(half(model) if strong(version) else model, precision="int8", per_layer=True)
    assert session.properties["precision"] == "int8"
    kinds = {layer.name.rpartition(" + ")[2]: layer.types for layer in session._layers}  # type: ignore[attr-defined]
    assert kinds["layer1.0.relu_1"] == ("int8",)
    assert kinds["fc"] == ("fp16",)
    if not strong(version):
        with pytest.raises(InputError, match="scales must be float32"):
            opened(half(model), precision="int8")


def test_zero_points_other_than_0_are_refused() -> None:
    with pytest.raises(InputError, match="symmetric"):
        opened(quantized(residual(), "qdq", RESIDUAL_INPUT), precision="int8")


def test_copies_are_in_the_number_or_out_of_it(gpu: Gpu) -> None:
    session = opened(copies=False)
    session.bind([RESIDUAL_INPUT])
    ms = session.infer()
    assert ms == pytest.approx(session.gpu_ms(3), rel=1e-4)  # type: ignore[attr-defined]
    within = opened(copies=True)
    within.bind([RESIDUAL_INPUT])
    start = gpu.now_ms
    assert within.infer() is None  # the caller's clock is the one that counts
    moved_ms = (3 * 12 * 12 * 4 + 10 * 4) / BYTES_PER_MS
    assert gpu.now_ms - start == pytest.approx(ms + moved_ms, rel=1e-4)
    assert (session.properties["copies"], within.properties["copies"]) == ("out", "in")


def test_the_network_is_launched_as_one_graph(gpu: Gpu) -> None:
    session = opened()
    session.bind([RESIDUAL_INPUT])
    gpu.calls.clear()
    session.infer()
    assert gpu.calls == ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaStreamSynchronize"]
    assert session.properties["cuda_graph"] == "on"


def test_where_no_graph_can_be_captured_it_runs_without_and_says_so(gpu: Gpu) -> None:
    gpu.refuses["cudaGraphInstantiateWithFlags"] = 900
    session = opened()
    assert session.properties["cuda_graph"].startswith("off: cudaGraphInstantiateWithFlags returned 900")
    assert "graph" not in gpu.alive.values()
    expected = opened(scale_and_shift()).run([np.float32([[1, 2]]), np.float32([[10, 20]])])
    assert expected[1].tolist() == [[11, 22]]


def test_everything_is_given_back(gpu: Gpu) -> None:
    session = opened(per_layer=True)
    session.bind([RESIDUAL_INPUT])
    session.layer_times(3)
    assert set(gpu.alive.values()) == {
        "device memory",
        "host memory",
        "stream",
        "event",
        "graph",
        "executable graph",
    } - {"graph"}
    session.close()
    session.close()
    assert not gpu.alive


@pytest.mark.parametrize("function", ["cudaMallocHost", "cudaStreamCreateWithFlags", "cudaStreamSynchronize"])
def test_what_was_made_is_given_back_where_the_rest_fails(function: str, gpu: Gpu) -> None:
    gpu.refuses[function] = 2
    with pytest.raises(DeviceError, match=f"{function} returned 2: out of memory"):
        opened()
    assert not gpu.alive


def test_changes_of_layout_have_rows_of_their_own_and_shares_are_said() -> None:
    session = opened(per_layer=True)
    session.bind([RESIDUAL_INPUT])
    rows = session.layer_times(5)
    assert next(row for row in rows if row.kind == "Reformat").nodes == ()
    total = sum(row.us for row in rows)
    assert session.report["reformat_share"] == f"{2 / total:.1%}"
    assert session.report["unattributed_share"] == "0.0%"
    assert float(session.report["engine_us"]) == pytest.approx(0.9 * total, rel=0.01)


def test_what_is_measured_is_the_engine_that_was_saved(gpu: Gpu, tmp_path: Path, version: str) -> None:
    (path,) = open_runtime("tensorrt").save_engine(residual(), tmp_path / "engine", SessionSettings())
    assert path.name == f"model-trt{version}-sm87.plan"
    session = opened()
    assert session.report["builds"] == str(tensorrt.BUILDS)
    assert len(session.report["builds_gpu_ms"].split()) == tensorrt.BUILDS
    assert session.report["builds_spread"].endswith("%")
    assert session.report["tactics_skipped"] == "1"


def test_tactics_are_timed_once_a_device(gpu: Gpu, version: str) -> None:
    opened(residual())
    (kept,) = (cudart.Cuda(),)
    assert TimingCache(version, kept).read() == b"timed " + version.encode()
    before = gpu.now_ms
    tensorrt_build.build(residual(8), "fp32", kept, TimingCache(version, kept).read())
    assert gpu.now_ms == before
    tensorrt_build.build(residual(8), "fp32", kept, b"timed on another device")
    assert gpu.now_ms == before + 100


def test_the_builder_gets_a_share_of_the_free_memory(gpu: Gpu) -> None:
    gpu.free_bytes = 1 << 20
    assert opened(scale_and_shift()).outputs == ["double", "sum"]


def test_without_a_gpu_it_says_so(gpu: Gpu) -> None:
    gpu.refuses["no GPU"] = 1
    with pytest.raises(MissingError, match="finds no GPU"):
        opened()


def test_an_engine_of_another_version_is_refused(gpu: Gpu) -> None:
    cuda = cudart.Cuda()
    built = tensorrt_build.build(residual(), "fp32", cuda)
    other = tensorrt_build.Built(built.plan.replace(b'"version": "', b'"version": "1'))
    with pytest.raises(DeviceError, match="Version tag does not match"):
        TensorRTSession(residual(), tensorrt.Kept(other, {}), SessionSettings(), cuda)
