"""A float32 ONNX network with the QuantizeLinear and DequantizeLinear nodes that TensorRT makes int8 layers of.

TensorRT computes in int8 where it is told to, and only so ("Working with Quantized Types" of its documentation):
  - all zero points are 0: a tensor has one scale, max |x| / 127; weights have one for each output channel;
  - both inputs of a layer with weights are quantized, its output and its bias are not: what follows the convolution
    (bias, addition, activation) is fused into it, and the next reader's QuantizeLinear makes that layer's output int8;
  - an addition that ends a residual block is fused into the convolution before it, and reads int8 if the other side,
    the shortcut, is quantized;
  - a pair for each reader: TensorRT merges and moves them (through pooling, concatenation, reshapes) as it likes;
  - weights stay floats with a QuantizeLinear of their own, which every version since 8 reads and folds.

Everything else stays a float: classifiers on one row, which no tensor core can help; products of two activations;
additions without a convolution before them (in transformers they carry what must stay exact); normalizations, softmax,
activations that are not fused. Which float that is says `typed.py`, or on TensorRT 8 a flag.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

LARGEST = 127
"""The code of the largest value; -128 stays unused, so that both signs have the same range."""

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("Gemm", "MatMul")


def symmetric(model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """Return a float32 model with Q/DQ pairs where TensorRT makes int8 layers of them.

    Args:
        model: serialized, of static shapes.
        feeds: inputs by name, a batch each; the largest magnitude that a tensor takes over all of them is its range.
    """
    proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    weighted = {node.name: axis for node, axis in _weighted(proto.graph, weights)}
    shortcuts = dict(_shortcuts(proto.graph, weighted))
    read = {node.name: (0 if node.name in weighted else shortcuts.get(node.name)) for node in proto.graph.node}
    ranges = _ranges(proto, feeds)
    placed = []
    for node in proto.graph.node:
        at = read[node.name]
        if at is not None:
            scale = _scale(ranges[node.input[at]])
            placed += _pair(proto.graph, node, at, f"{node.name}.input", scale)
        if node.name in weighted:
            axis = weighted[node.name]
            weight = np.moveaxis(weights[node.input[1]], axis, 0)
            scale = _scale(np.abs(weight.reshape(len(weight), -1)).max(axis=1))
            placed += _pair(proto.graph, node, 1, f"{node.name}.weight", scale, axis)
        placed.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(placed)
    return bytes(proto.SerializeToString())


def _weighted(graph: onnx.GraphProto, weights: Mapping[str, np.ndarray]) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Yield the layers with weights that are to be int8, with the axis of the weights' output channels."""
    shapes = {one.name: [size.dim_value for size in one.type.tensor_type.shape.dim] for one in graph.value_info}
    shapes.update((one.name, [size.dim_value for size in one.type.tensor_type.shape.dim]) for one in graph.input)
    for node in graph.node:
        if len(node.input) < 2 or node.input[0] in weights or node.input[1] not in weights:
            continue
        weight, flags = weights[node.input[1]], {one.name: one.i for one in node.attribute}
        if node.op_type in _CONVOLUTIONS:
            grouped = flags.get("group", 1) > 1
            if node.op_type == "Conv" or not grouped:  # a grouped ConvTranspose has no axis of all output channels
                yield node, 0 if node.op_type == "Conv" else 1
        elif node.op_type in _PRODUCTS and weight.ndim == 2 and not flags.get("transA"):
            rows = int(np.prod(shapes.get(node.input[0], [1])[:-1]))
            if rows > 1:
                yield node, 0 if flags.get("transB") else 1


def _shortcuts(graph: onnx.GraphProto, weighted: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the additions that are fused into a quantized convolution, with the input that does not come from it."""
    readers: dict[str, int] = {}
    for name in [name for node in graph.node for name in node.input] + [one.name for one in graph.output]:
        readers[name] = readers.get(name, 0) + 1
    writer = {name: place for place, node in enumerate(graph.node) for name in node.output}
    stored = {one.name for one in graph.initializer}
    for node in graph.node:
        if node.op_type != "Add" or stored & set(node.input):
            continue
        fused = [
            (writer[name], at)
            for at, name in enumerate(node.input)
            if name in writer and readers[name] == 1 and _is_quantized_convolution(graph.node[writer[name]], weighted)
        ]
        if fused:
            _, main = max(fused)  # of two convolutions, the later one waits for the other's result
            yield node.name, 1 - main


def _is_quantized_convolution(node: onnx.NodeProto, weighted: Mapping[str, int]) -> bool:
    return node.op_type in _CONVOLUTIONS and node.name in weighted


def _ranges(proto: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the largest magnitude of each tensor over all feeds."""
    from onnxruntime.quantization import create_calibrator

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        source, watched = Path(folder) / "float.onnx", Path(folder) / "watched.onnx"
        source.write_bytes(proto.SerializeToString())
        calibrator = create_calibrator(source, augmented_model_path=watched, extra_options={"symmetric": True})
        calibrator.set_execution_providers(["CPUExecutionProvider"])
        calibrator.collect_data(SimpleNamespace(get_next=partial(next, iter(feeds), None)))
        found = calibrator.compute_data()
    return {name: np.abs(one.range_value).max() for name, one in found.items()}


def _scale(largest: np.ndarray) -> np.ndarray:
    """Return the scale for a largest magnitude; 1 for what is always 0, where any will do."""
    return np.asarray(np.where(largest > 0, largest / LARGEST, 1), np.float32)


def _pair(
    graph: onnx.GraphProto, node: onnx.NodeProto, at: int, name: str, scale: np.ndarray, axis: int | None = None
) -> list[onnx.NodeProto]:
    """Return the two nodes that quantize one input of a node, which reads from them from now on."""
    numbers = {f"{name}.scale": scale, f"{name}.zero_point": np.zeros(scale.shape, np.int8)}
    graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in numbers.items())
    axes: dict[str, Any] = {} if axis is None else {"axis": axis}
    source, code, value = node.input[at], f"{name}.quantize", f"{name}.dequantize"
    node.input[at] = value
    return [
        onnx.helper.make_node("QuantizeLinear", [source, *numbers], [code], name=code, **axes),
        onnx.helper.make_node("DequantizeLinear", [code, *numbers], [value], name=value, **axes),
    ]
