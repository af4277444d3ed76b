"""Which nodes OpenVINO's primitives compute, and what their counters say."""

from __future__ import annotations

import numpy as np
import onnx

from edgeprune.runtimes.base import LayerTime, SessionSettings
from edgeprune.runtimes.onnxgraph import GraphNode, Primitive
from edgeprune.runtimes.openvino_layers import Counter, known_names, one_run_us, served_by
from edgeprune.runtimes.registry import open_runtime


def test_names_of_parts_lead_to_their_node() -> None:
    nodes = frozenset(["conv", "a/b"])
    assert known_names(["conv/WithoutBiases", "conv", "a/b", "Constant_7"], nodes) == ("conv", "a/b")


def test_the_cold_runs_come_out_of_the_mean() -> None:
    # 10 cold runs of 30 us, then 40 of 8: (300 + 320) / 50 = 12.4, which reads 12. (12 * 50 - 30 * 10) / 40 = 7.5,
    # and 1 for the two times that a fraction was cut off.
    assert one_run_us(12, 50, 30, 10) == 8.5
    assert one_run_us(0, 50, 0, 10) == 0
    assert one_run_us(1, 50, 30, 10) == 0


def test_a_linear_layer_has_its_product_and_what_leads_to_it_has_not() -> None:
    """On tokens: two linear layers with a bias, the first between a Tanh and a Relu; OpenVINO names the bias alone."""
    helper, random = onnx.helper, np.random.default_rng(0)
    weights = {
        "wide": random.standard_normal((64, 256)),
        "wide_bias": random.standard_normal(256),
        "narrow": random.standard_normal((256, 64)),
        "narrow_bias": random.standard_normal(64),
    }
    nodes = [
        helper.make_node("Tanh", ["input"], ["tanh"], name="tanh"),
        helper.make_node("MatMul", ["tanh", "wide"], ["product"], name="wide"),
        helper.make_node("Add", ["product", "wide_bias"], ["added"], name="wide#2"),
        helper.make_node("Relu", ["added"], ["relu"], name="relu"),
        helper.make_node("MatMul", ["relu", "narrow"], ["product2"], name="narrow"),
        helper.make_node("Add", ["product2", "narrow_bias"], ["output"], name="narrow#2"),
    ]
    shape = [1, 196, 64]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(one.astype(np.float32), name) for name, one in weights.items()],
    )
    rows = {row.nodes: row.us for row in _layer_times(graph, shape)}
    assert ("wide", "wide#2", "relu") in rows
    assert ("narrow", "narrow#2") in rows
    assert ("tanh",) in rows
    assert min(rows["wide", "wide#2", "relu"], rows["narrow", "narrow#2"]) > 10  # 3.2 million products each


def _counter(name: str, kind: str, *inputs: str, nodes: tuple[str, ...] = (), part: bool = False) -> Counter:
    return Counter(Primitive(name, kind, (name,), nodes, inputs), 5, part)


def test_parts_of_a_node_taken_apart_and_what_changes_the_layout_between_them_are_that_node() -> None:
    nodes = [
        GraphNode("conv", "Conv", ("x",), ("conv",)),
        GraphNode("norm", "LayerNormalization", ("conv",), ("norm",)),
        GraphNode("linear", "MatMul", ("norm",), ("linear",)),
    ]
    counted = [
        _counter("x_abcd_acdb_conv", "Reorder", "x"),
        _counter("conv", "Convolution", "x_abcd_acdb_conv", nodes=("conv",)),
        _counter("ReduceMean_1", "Reduce", "conv", part=True),
        _counter("Subtract_2", "Subgraph", "conv", "ReduceMean_1", part=True),
        _counter("Subtract_2_acdb_abcd", "Reorder", "Subtract_2"),
        _counter("Multiply_3", "RMS", "Subtract_2_acdb_abcd", part=True),
        _counter("norm", "Subgraph", "Multiply_3", nodes=("norm",)),
        _counter("norm_abcd_acdb", "Reorder", "norm"),
        _counter("linear", "FullyConnected", "norm_abcd_acdb", nodes=("linear",)),
    ]
    assert served_by(counted, nodes) == [
        ((), ()),
        (("conv",), ()),
        (("norm",), ()),
        (("norm",), ()),
        ((), ("norm",)),
        (("norm",), ()),
        (("norm",), ()),
        ((), ("norm",)),
        (("linear",), ()),
    ]


def test_a_part_that_two_nodes_share_is_of_both() -> None:
    nodes = [
        GraphNode("conv", "Conv", ("x",), ("conv",)),
        GraphNode("one", "LayerNormalization", ("conv",), ("one",)),
        GraphNode("two", "LayerNormalization", ("conv",), ("two",)),
    ]
    counted = [
        _counter("conv", "Convolution", "x", nodes=("conv",)),
        _counter("ReduceMean_1", "Reduce", "conv", part=True),
        _counter("one", "Subgraph", "conv", "ReduceMean_1", nodes=("one",)),
        _counter("two", "Subgraph", "conv", "ReduceMean_1", nodes=("two",)),
    ]
    assert [of.nodes for of in served_by(counted, nodes)] == [("conv",), ("one", "two"), ("one",), ("two",)]


def test_a_layer_norm_has_all_of_its_time() -> None:
    """On channels-last images; OpenVINO runs it as four primitives, three of which have names of its own making."""
    helper, shape = onnx.helper, [1, 56, 56, 96]
    nodes = [
        helper.make_node("Tanh", ["input"], ["tanh"], name="tanh"),
        helper.make_node("LayerNormalization", ["tanh", "scale", "shift"], ["output"], name="norm", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "norm",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(np.full(96, 0.5, np.float32), name) for name in ("scale", "shift")],
    )
    rows = _layer_times(graph, shape)
    names = {row.serves for row in rows if row.us > 0}
    assert names == {("tanh",), ("norm",)}
    assert sum(row.serves == ("norm",) and row.us > 0 for row in rows) > 1


def _layer_times(graph: onnx.GraphProto, shape: list[int]) -> list[LayerTime]:
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = open_runtime("openvino").open(model.SerializeToString(), SessionSettings("fp32", 1, per_layer=True))
    session.bind([np.zeros(shape, np.float32)])
    try:
        return session.layer_times(20)
    finally:
        session.close()
