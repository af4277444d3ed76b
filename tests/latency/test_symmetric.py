"""Q/DQ for TensorRT: placed and scaled as worked out by hand; run by ONNX Runtime, and by TensorRT's stand-in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.graph.trace import trace
from edgeprune.latency import profile
from edgeprune.latency.bench import Bench, open_bench
from edgeprune.latency.rule import Rule
from edgeprune.latency.store import TableStore
from edgeprune.latency.symmetric import symmetric
from edgeprune.latency.typed import typed
from tests.onnx_models import Builder, residual
from tests.simulated import Wide
from tests.standins.board import InProcess, install_board
from tests.standins.engine_layers import session_of

IMAGES = np.random.default_rng(1).standard_normal((16, 3, 12, 12)).astype(np.float32)
QUICK = Rule(warmup_s=0.01, steady_tolerance=0.5, samples_min=2, round_s=0.01, rounds=2, retries=1, rounds_max=2)


def stored(model: bytes) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load_model_from_string(model).graph.initializer}


def sources(model: bytes) -> dict[str, list[str]]:
    """Return what each node reads that is quantized, by name of the float tensor."""
    nodes = {node.name: node for node in onnx.load_model_from_string(model).graph.node}
    pairs = {name: nodes[node.input[0]].input[0] for name, node in nodes.items() if node.op_type == "DequantizeLinear"}
    return {name: [pairs[one] for one in node.input if one in pairs] for name, node in nodes.items()}


def outputs(model: bytes) -> np.ndarray:
    session = session_of(model)
    return np.concatenate([session.run(None, {"input": image[None]})[0] for image in IMAGES])


def by_hand() -> tuple[bytes, list[dict[str, np.ndarray]]]:
    """A 1x1 convolution from 2 to 3 channels and a transposed one back, on one pixel."""
    build = Builder(input=[1, 2, 1, 1])
    weight = np.float32([[1, -2.54], [0, 0], [0.5, 0.127]]).reshape(3, 2, 1, 1)
    back = np.float32([[2.54, 0], [0, -1.27], [0, 0]]).reshape(3, 2, 1, 1)
    build.weights += [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(back, "back")]
    build.op("ConvTranspose", "up", build.op("Conv", "conv", "input", "weight"), "back")
    feeds = [np.float32([3, -1.27]), np.float32([-6.35, 2])]
    return build.model(up=[1, 2, 1, 1]), [{"input": feed.reshape(1, 2, 1, 1)} for feed in feeds]


def test_scales_by_hand() -> None:
    """The largest input is 6.35 = 127 x 0.05. The rows of the weights reach 2.54, 0 and 0.5; the columns 2.54, 1.27.

    The convolution gives 3 + 2.54 x 1.27 = 6.2258 and -6.35 - 2.54 x 2 = -11.43 = -127 x 0.09 in its first channel.
    """
    model, feeds = by_hand()
    found = stored(symmetric(model, feeds))
    np.testing.assert_allclose(found["conv.input.scale"], 0.05, rtol=1e-6)
    np.testing.assert_allclose(found["conv.weight.scale"], [0.02, 1, 0.5 / 127], rtol=1e-6)
    np.testing.assert_allclose(found["up.input.scale"], 0.09, rtol=1e-6)
    np.testing.assert_allclose(found["up.weight.scale"], [0.02, 0.01], rtol=1e-6)
    points = {name: value for name, value in found.items() if name.endswith(".zero_point")}
    assert {name: (value.dtype.name, value.shape) for name, value in points.items()} == {
        "conv.input.zero_point": ("int8", ()),
        "conv.weight.zero_point": ("int8", (3,)),
        "up.input.zero_point": ("int8", ()),
        "up.weight.zero_point": ("int8", (2,)),
    }
    assert not any(value.any() for value in points.values())


def test_what_is_quantized_is_what_a_convolution_reads_and_the_shortcut() -> None:
    found = sources(symmetric(residual(), [{"input": IMAGES[:1]}]))
    assert {name: read for name, read in found.items() if read} == {
        "stem.conv": ["input", "stem.conv.weight"],
        "layer1.0.conv1": ["stem.relu", "layer1.0.conv1.weight"],
        "layer1.0.conv2": ["layer1.0.relu", "layer1.0.conv2.weight"],
        "layer1.0.add": ["stem.relu"],
        "depthwise": ["layer1.0.relu_1", "depthwise.weight"],
    }, "not the classifier, which has one row; no output, no bias"


def test_of_two_convolutions_that_are_added_the_later_one_takes_the_other_in() -> None:
    build = Builder(input=[1, 4, 6, 6])
    build.op("Add", "add", build.conv("later", build.conv("first", "input", 4, 4, 1), 4, 4, 1), "input")
    shortcut = build.conv("shortcut", "add", 4, 4, 1)
    build.op("Add", "both", shortcut, build.conv("main", "add", 4, 4, 3))
    found = sources(symmetric(build.model(both=[1, 4, 6, 6]), [{"input": IMAGES[:1, :1].repeat(4, 1)[..., :6, :6]}]))
    assert (found["add"], found["both"]) == (["input"], ["shortcut"])


def test_products_have_a_scale_for_each_column_and_those_of_activations_stay_floats() -> None:
    build = Builder(input=[1, 5, 8])
    query = build.op("MatMul", "query", "input", build.weight("q", 8, 6))
    key = build.op("Transpose", "key", build.op("MatMul", "k", "input", build.weight("kw", 8, 6)), perm=[0, 2, 1])
    build.op("MatMul", "scores", query, key)
    model = symmetric(build.model(scores=[1, 5, 5]), [{"input": np.ones((1, 5, 8), np.float32)}])
    assert stored(model)["query.weight.scale"].shape == (6,)
    axes = {node.name: [one.i for one in node.attribute] for node in onnx.load_model_from_string(model).graph.node}
    assert axes["query.weight.quantize"] == axes["query.weight.dequantize"] == [1]
    assert sources(model)["scores"] == []


def test_outputs_are_near_and_nearly_the_same_in_half_precision() -> None:
    expected, model = outputs(residual()), symmetric(residual(), [{"input": image[None]} for image in IMAGES])
    mixed = typed(model, "fp16")
    proto = onnx.load_model_from_string(mixed)
    onnx.checker.check_model(proto, full_check=True)
    assert {one.data_type for one in proto.graph.initializer} == {TensorProto.FLOAT16, TensorProto.INT8}
    assert [one.version for one in proto.opset_import] == [19], "from which on scales may be float16"
    for found in (outputs(model), outputs(mixed)):
        assert 0 < np.abs(found - expected).max() / np.abs(expected).max() < 0.01


VERSIONS = ("8.6.1", "10.3.0", "11.4.0.106")


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    install_board(request.param, tmp_path, monkeypatch)
    return open_bench("jetson", precision="int8", device=InProcess())


@pytest.mark.parametrize("bench", VERSIONS, indirect=True)
def test_a_board_gets_the_file_that_its_version_reads(bench: Bench) -> None:
    fingerprint = bench.fingerprint()
    assert (fingerprint["precision"], fingerprint["quantizer"]) == ("int8", "symmetric Q/DQ 1")
    sent = bench.typed(residual(), IMAGES)
    kinds = {one.data_type for one in onnx.load_model_from_string(sent).graph.initializer}
    strong = fingerprint["typing"] == "strong"
    assert kinds == {TensorProto.FLOAT16 if strong else TensorProto.FLOAT, TensorProto.INT8}
    assert bench.typed(sent) is sent
    np.testing.assert_allclose(bench.outputs(sent, [IMAGES])[0], outputs(sent), atol=1e-6)
    assert bench.build(sent).keys() == {f"model-trt{fingerprint['runtime_version']}-sm87.plan"}


@pytest.mark.parametrize("bench", VERSIONS[1:2], indirect=True)
def test_layers_of_any_width_are_timed_under_the_names_of_the_float_network(bench: Bench) -> None:
    found = bench.layers({"wide": residual(), "narrow": residual(8)}, QUICK, layers_s=0.0)
    for times in found.values():
        rows = {node: row for row in times.rows for node in row.nodes}
        weighted = ("stem.conv", "layer1.0.conv1", "layer1.0.conv2", "depthwise", "fc")
        assert len({id(rows[name]) for name in weighted}) == len(weighted), "each has a row of its own"
        assert {"layer1.0.add", "layer1.0.relu_1"} < set(rows["layer1.0.conv2"].nodes)


@pytest.mark.slow
@pytest.mark.parametrize("bench", VERSIONS, indirect=True)
def test_a_table_is_filled_in_int8(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SURVEY": QUICK, "LAYERS_S": 0.0, "numbers_of": lambda known: (0, 1, 6)}.items():
        monkeypatch.setattr(profile, name, value)
    model = Wide().eval()
    blueprint = Blueprint(model, trace(model, torch.zeros(1, 3, 16, 16)))
    table = profile.fill(blueprint, bench, TableStore(tmp_path / "tables"))
    convolutions = {name for name, node in blueprint.nodes.items() if node.op == "Conv"}
    for record in table.records:
        assert convolutions <= {name for row in record.rows for name in row.nodes}
