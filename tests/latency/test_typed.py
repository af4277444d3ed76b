"""Half-precision models, run by ONNX Runtime, which knows the type rules that TensorRT's strong typing holds to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from edgeprune.errors import InputError
from edgeprune.latency.typed import typed, widely_read
from tests.onnx_models import residual

INPUT = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)


def outputs(model: bytes) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": INPUT})[0]


def test_everything_between_the_ends_is_half() -> None:
    model = onnx.load_from_string(typed(residual(), "fp16"))
    onnx.checker.check_model(model, full_check=True)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT16}
    assert [port.type.tensor_type.elem_type for port in (*model.graph.input, *model.graph.output)] == [1, 1]


def test_names_stay_and_outputs_nearly() -> None:
    half = typed(residual(), "fp16")
    names = [node.name for node in onnx.load_from_string(half).graph.node if node.op_type != "Cast"]
    assert names == [node.name for node in onnx.load_from_string(residual()).graph.node]
    expected = outputs(residual())
    np.testing.assert_allclose(outputs(half), expected, atol=5e-3 * np.abs(expected).max())


def test_fp32_is_left_alone_and_others_are_refused() -> None:
    assert typed(residual(), "fp32") == residual()
    assert typed(typed(residual(), "fp16"), "fp16") == typed(residual(), "fp16")
    with pytest.raises(InputError, match="int8"):
        typed(residual(), "int8")


def opset_18() -> bytes:
    """Return a network with what opset 17 writes otherwise: a maximum over channels, two halves, a resize."""
    make = onnx.helper.make_node
    nodes = [
        make("ReduceMax", ["input", "axes"], ["most"], name="most", keepdims=1),
        make("Sub", ["input", "most"], ["below"], name="below"),
        make("Split", ["below"], ["top", "bottom"], name="halves", num_outputs=2, axis=2),
        make("Add", ["top", "bottom"], ["sum"], name="sum"),
        make("Resize", ["sum", "", "", "sizes"], ["output"], name="resize", axes=[2, 3], mode="nearest"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 12, 12])],
        [onnx.helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 24, 24])],
        [
            onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"),
            onnx.numpy_helper.from_array(np.array([24, 24], np.int64), "sizes"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def test_tensorrt_8_is_given_what_it_reads_right() -> None:
    given, expected = widely_read(opset_18()), outputs(opset_18())
    assert expected.shape == (1, 3, 24, 24)
    np.testing.assert_array_equal(outputs(given), expected)
    graph = onnx.load_from_string(given).graph
    assert [node.name for node in graph.node] == ["most", "below", "halves", "sum", "resize"]
    assert list(graph.node[0].input) == ["input"], "TensorRT 8 passes over axes that are an input"
    assert onnx.load_from_string(given).opset_import[0].version == 17
    assert widely_read(given) == given


@pytest.mark.parametrize(
    ("op", "attributes"), [("Mish", {}), ("Resize", {"antialias": 1, "mode": "linear"})], ids=["Mish", "antialias"]
)
def test_what_only_opset_18_has_is_left_as_it_is(op: str, attributes: dict[str, Any]) -> None:
    proto = onnx.load_from_string(opset_18())
    last = proto.graph.node[-1]
    if op == last.op_type:
        last.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
        del last.attribute[1]  # the usual mode
    else:
        proto.graph.node[3].op_type = op
        del proto.graph.node[3].input[1:]
    assert widely_read(proto.SerializeToString()) == proto.SerializeToString()
