from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeprune.errors import InputError
from edgeprune.runtimes.onnxgraph import GraphNode, Primitive, attribute, behind, read_nodes
from tests.onnx_models import residual

_NAMES = st.text(min_size=1, max_size=200)


def test_reads_what_onnx_reads() -> None:
    expected = [
        GraphNode(node.name, node.op_type, tuple(node.input), tuple(node.output))
        for node in onnx.load_from_string(residual()).graph.node
    ]
    assert read_nodes(residual()) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(_NAMES, st.lists(_NAMES, max_size=3), st.lists(_NAMES, min_size=1)), min_size=1))
def test_reads_any_names(rows: list[tuple[str, list[str], list[str]]]) -> None:
    nodes = [helper.make_node("Op", reads, writes, name=name, value=7) for name, reads, writes in rows]
    model = helper.make_model(helper.make_graph(nodes, "graph", [], []))
    expected = [GraphNode(name, "Op", tuple(reads), tuple(writes)) for name, reads, writes in rows]
    assert read_nodes(model.SerializeToString()) == expected


def test_a_node_without_a_name_is_called_after_its_output() -> None:
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [], []))
    assert read_nodes(model.SerializeToString())[0].name == "y"


@pytest.mark.parametrize("content", [b"", b"no model at all", residual()[:-3], b"\xff" * 40])
def test_refuses_what_is_no_model(content: bytes) -> None:
    with pytest.raises(InputError, match="not an ONNX model"):
        read_nodes(content)


def node(kind: str, name: str, *reads: str) -> GraphNode:
    return GraphNode(name, kind, reads, (name,))


def test_a_fused_convolution_named_after_its_first_node_has_its_activation() -> None:
    nodes = [node("Conv", "c", "x"), node("Relu", "r", "c"), node("Conv", "d", "r")]
    assert attribute(nodes, [Primitive("c", "FusedConv"), Primitive("d", "Conv")]) == [("c", "r"), ("d",)]


def test_a_fused_convolution_named_after_its_last_tensor_has_its_convolution() -> None:
    nodes = [node("Conv", "c", "x"), node("Relu", "r", "c"), node("Conv", "d", "r"), node("Relu", "s", "d")]
    blocked = [
        Primitive("r_nchwc", "Conv"),
        Primitive("s_nchwc", "Conv"),
        Primitive("ReorderOutput", "ReorderOutput", ("s",)),
    ]
    assert attribute(nodes, blocked) == [("c", "r"), ("d", "s"), ()]


def test_a_change_of_layout_serves_what_computed_the_tensor() -> None:
    # What is read by a first one comes from outside; a second one behind the first serves the same nodes.
    executed = [
        Primitive("in", "ReorderInput", ("x_blocked",), inputs=("x",)),
        Primitive("r_nchwc", "Conv", ("r_blocked",), inputs=("x_blocked", "w")),
        Primitive("out", "ReorderOutput", ("r",), inputs=("r_blocked",)),
        Primitive("cast", "Cast", ("r16",), inputs=("r",)),
    ]
    assert behind(executed, [(), ("c", "r"), (), ()]) == [(), (), ("c", "r"), ("c", "r")]


def test_an_addition_belongs_to_the_branch_that_runs_last() -> None:
    nodes = [node("Conv", "a", "x"), node("Conv", "b", "a"), node("Add", "sum", "a", "b"), node("Relu", "r", "sum")]
    assert attribute(nodes, [Primitive("a", "Conv"), Primitive("b", "Conv")]) == [("a",), ("b", "sum", "r")]


def test_what_only_moves_data_takes_nothing_in() -> None:
    nodes = [node("Concat", "cat", "x", "y"), node("BatchNormalization", "bn", "cat"), node("Relu", "r", "bn")]
    primitives = [Primitive("cat", "Concat"), Primitive("generated", "Subgraph", nodes=("r",))]
    assert attribute(nodes, primitives) == [("cat",), ("r", "bn")]


def test_a_pad_belongs_to_the_convolution_behind_it() -> None:
    assert attribute([node("Pad", "p", "x"), node("Conv", "c", "p")], [Primitive("c", "Conv")]) == [("p", "c")]


def test_a_pattern_fused_into_one_operator_is_all_its_own() -> None:
    nodes = [
        node("MatMul", "m", "x"),
        node("Div", "d", "m"),
        node("Erf", "e", "d"),
        node("Mul", "g", "m", "e"),
    ]
    fused = [Primitive("m", "MatMul"), Primitive("Gelu_1", "Gelu", ("g",))]
    assert attribute(nodes, fused) == [("m",), ("d", "e", "g")]


def test_a_node_split_in_two_is_in_both() -> None:
    primitives = [Primitive("a", "Reduce", nodes=("n",)), Primitive("b", "Math", nodes=("n",))]
    assert attribute([node("LayerNormalization", "n", "x")], primitives) == [("n",), ("n",)]


def test_what_leads_nowhere_is_nowhere() -> None:
    assert attribute([node("Shape", "s", "x"), node("Relu", "r", "x")], [Primitive("r", "Relu")]) == [("r",)]
