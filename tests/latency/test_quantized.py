"""Int8 models, run by the runtimes that they are made for: outputs, not times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeprune.errors import InputError, MissingError
from edgeprune.latency import quantized as module
from edgeprune.latency.bench import Bench, open_bench
from edgeprune.latency.quantized import QUANTIZERS, Quantizer, needs_reduced_range, quantized
from tests.onnx_models import Builder, residual, scale_and_shift

UNSIGNED = ("nncf", "qdq")
IMAGES = np.random.default_rng(1).standard_normal((16, 3, 12, 12)).astype(np.float32)


def codes(model: bytes) -> dict[str, np.ndarray]:
    """Return the int8 weights of each convolution by name."""
    graph = onnx.load_model_from_string(model).graph
    weights = {one.name: one for one in graph.initializer}
    writer = {name: node for node in graph.node for name in node.output}
    found = {}
    for node in graph.node:
        if node.op_type == "Conv":
            tensor = weights[writer[node.input[1]].input[0]]
            assert tensor.data_type == TensorProto.INT8
            found[node.name] = numpy_helper.to_array(tensor)
    return found


@pytest.mark.parametrize("method", UNSIGNED)
def test_activations_are_unsigned_and_weights_signed_by_channel(method: str) -> None:
    model = onnx.load_model_from_string(quantized(residual(), method, IMAGES))
    onnx.checker.check_model(model)
    weights = {one.name: one for one in model.graph.initializer}
    scales = {node.name: weights[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    by_channel = [scale for name, scale in scales.items() if ".conv1.weight" in name]
    assert [list(scale.dims) for scale in by_channel] == [[16]], "a scale for each of the 16 output channels"
    behind_relu = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "layer1.0.relu"]
    assert [weights[node.input[2]].data_type for node in behind_relu] == [TensorProto.UINT8]


@pytest.mark.parametrize("method", UNSIGNED)
def test_a_processor_without_vnni_gets_weights_of_seven_bits(method: str) -> None:
    """The largest weight of a channel becomes 127 of the signed 8 bits, or 63 or 64 of 7."""
    full, reduced = (codes(quantized(residual(), method, IMAGES, reduced=bits)) for bits in (False, True))
    assert np.abs(full["layer1.0.conv1"].astype(int)).max() >= 127
    del reduced["depthwise"]  # which NNCF leaves at 8
    assert all(np.abs(weights.astype(int)).max() <= 64 for weights in reduced.values())


def test_vnni_is_read_off_the_fingerprint() -> None:
    assert needs_reduced_range({"arch": "x86_64", "isa": "sse4_2 avx2"})
    assert not needs_reduced_range({"arch": "x86_64", "isa": "avx2 avx512f avx512_vnni"})
    assert not needs_reduced_range({"arch": "aarch64", "isa": "asimd"})


@pytest.mark.parametrize("method", UNSIGNED)
def test_the_same_images_give_the_same_model_and_int8_is_left_alone(method: str) -> None:
    once = quantized(residual(), method, IMAGES)
    assert codes(quantized(residual(), method, IMAGES)).keys() == codes(once).keys()
    assert quantized(once, method, IMAGES) is once
    names = {node.name for node in onnx.load_model_from_string(once).graph.node}
    assert {"stem.conv", "layer1.0.conv1", "layer1.0.add", "depthwise", "fc"} <= names


def test_what_cannot_be_quantized_is_said() -> None:
    with pytest.raises(InputError, match="inputs left, right"):
        quantized(scale_and_shift(), "qdq", IMAGES)
    build = Builder(input=[1, 4])
    build.op("Identity", "same", "input")
    with pytest.raises(InputError, match="nothing in this network to quantize"):
        quantized(build.model(same=[1, 4]), "qdq")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(MissingError, match="int8 needs nncf") as caught:
        open_bench("openvino", precision="int8")
    assert caught.value.remedy == "pip install 'edgeprune[int8]'"


def test_a_method_that_breaks_is_told_by_its_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("no rule for Foo\nand a long trace")

    monkeypatch.setitem(QUANTIZERS, "qdq", Quantizer("onnxruntime", "", broken))
    with pytest.raises(InputError, match=r"onnxruntime .* can't quantize this network: no rule for Foo; "):
        quantized(residual(), "qdq")


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with open_bench(request.param, precision="int8", threads=1) as opened:
        yield opened


def test_int8_is_part_of_the_fingerprint_and_read_back(bench: Bench) -> None:
    found = bench.fingerprint()
    assert found["precision"] == "int8"
    assert found["quantizer"] == bench.quantizer != ""
    with open_bench(bench.target.name, precision="fp32", threads=1, device=bench.device) as other:
        assert found.differences(other.fingerprint()).keys() == {"precision", "quantizer"}


def test_the_engine_computes_what_the_float_network_does(bench: Bench) -> None:
    """Rounding to 8 bits in five layers costs a few per cent of the largest output; another network would cost 100."""
    with open_bench("onnxruntime", precision="fp32", threads=1) as exact:
        expected = exact.outputs(residual(), [IMAGES])[0]
    found = bench.outputs(bench.typed(residual(), IMAGES), [IMAGES])[0]
    assert 0 < np.abs(found - expected).max() / np.abs(expected).max() < 0.05


def test_the_engine_file_is_int8(bench: Bench, tmp_path: Path) -> None:
    typed = bench.typed(residual(64), np.repeat(IMAGES[:1], 2, axis=0))
    sizes = [sum(map(len, bench.build(model).values())) for model in (typed,)]
    assert 0 < sizes[0] < len(residual(64)), "weights of a byte instead of four"
