"""Small rewrites of an ONNX graph, all in place."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.graph.layers import JOINS, PRODUCTS
from edgeprune.muting import muted


def pool_globally(graph: onnx.GraphProto) -> None:
    """Turn ReduceMean over all positions into GlobalAveragePool, which runtimes keep in their blocked layout."""
    constants = {one.name: one for one in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in [*graph.value_info, *graph.input]}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in constants:
            continue
        rank = ranks.get(node.input[0], 0)
        axes = {int(axis) % max(rank, 1) for axis in numpy_helper.to_array(constants[node.input[1]])}
        keepdims = next((one.i for one in node.attribute if one.name == "keepdims"), 1)
        if rank >= 3 and axes == set(range(2, rank)) and keepdims:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop initializers that no node reads."""
    used = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def drop_empty(graph: onnx.GraphProto, emptied: Iterable[str]) -> None:
    """Drop, in place, nodes that work on tensors without channels; layers that read one become their bias.

    The bias is (1, C, 1, 1 ...) behind a convolution and (1, C) behind a matrix product, for what follows to broadcast.

    Args:
        graph: whose initializers were cut.
        emptied: the initializers of which nothing is left.
    """
    empty = set(emptied)
    if not empty:
        return
    stored = {one.name: one for one in graph.initializer}
    kept = []
    for node in graph.node:
        if not any(name in empty for name in node.input):
            kept.append(node)
        elif node.op_type in PRODUCTS and (bias := _bias(node, stored)) is not None:
            graph.initializer.append(numpy_helper.from_array(bias, node.output[0]))
        else:
            empty.update(node.output)
    del graph.node[:]
    graph.node.extend(_needed(graph, kept))
    drop_unused(graph)


def _bias(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> np.ndarray | None:
    """Return what a product computes of nothing; None where it computes nothing."""
    weight = stored.get(node.input[1])
    if weight is None:
        return None
    attributes = {one.name: one.i for one in node.attribute}
    rows_first = node.op_type == "Conv" or (node.op_type == "Gemm" and attributes.get("transB", 0))
    outputs = weight.dims[0 if rows_first else 1]
    if outputs == 0:
        return None
    # Where the layer has no bias, refitting gives it one; zeros would be folded away.
    bias = np.full(outputs, 0.1, onnx.helper.tensor_dtype_to_np_dtype(weight.data_type))
    if len(node.input) > 2 and node.input[2]:
        bias = numpy_helper.to_array(stored[node.input[2]])
    return np.ascontiguousarray(bias.reshape(1, outputs, *[1] * (len(weight.dims) - 2)))


def _needed(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes whose results are used."""
    used = {value.name for value in graph.output}
    found = []
    for node in reversed(nodes):
        if any(name in used for name in node.output):
            used.update(node.input)
            found.append(node)
    return found[::-1]


def without_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with what is known before it runs folded away, as in what is shipped; its nodes keep their names.

    A product with constants goes into the weights beside it.
    """
    import onnxsim

    with muted():
        folded: onnx.ModelProto = onnxsim.simplify(proto, check_n=0)[0]
    shrink_constants(folded.graph)
    return folded


def shrink_constants(graph: onnx.GraphProto) -> None:
    """Leave broadcasting to the operator: store a constant once along the dimensions in which it does not change."""
    shapes = _shapes(graph)
    stored = {one.name: one for one in graph.initializer}
    others: dict[str, list[tuple[int, ...] | None]] = {}
    for node in graph.node:
        for at, name in enumerate(node.input):
            other = node.input[1 - at] if node.op_type in JOINS else ""
            others.setdefault(name, []).append(shapes.get(other))
    for name, one in stored.items():
        if len(one.dims) < 3 or any(shape != tuple(one.dims) for shape in others.get(name, [None])):
            continue
        array = numpy_helper.to_array(one)
        for dim in range(array.ndim):
            first = array.take([0], axis=dim)
            if (array == first).all():
                array = first
        one.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the graph's values that are no constants."""
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in [*graph.value_info, *graph.input]
    }


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model without its initializers."""
    copied = onnx.ModelProto(ir_version=proto.ir_version, producer_name=proto.producer_name)
    copied.opset_import.extend(proto.opset_import)
    copied.functions.extend(proto.functions)
    copied.graph.name = proto.graph.name
    for field in ("node", "input", "output"):
        getattr(copied.graph, field).extend(getattr(proto.graph, field))
    return copied
