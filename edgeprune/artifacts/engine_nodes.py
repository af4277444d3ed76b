"""The nodes of an exported network, and how their sizes follow from the channel groups.

An axis says how many channels a tensor has, and a place which of its dimensions they are: the second one where images
are convolved, the last one where a linear layer reads them, and what a transposition makes of either. Weights of linear
layers are transposed by the exporter, under names of its own; they are told by their entries, which are random and
distinct here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference
from torch import Tensor

from edgeprune.artifacts.onnx import OPSET
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import JOINS, PRODUCTS, Axis, EngineNode

TRANSPOSED = ".T"
"""Behind a parameter's name: its transpose, as an initializer."""

_DETAILS = ("kernel_shape", "strides", "pads", "dilations", "auto_pad", "mode", "axis", "keepdims", "perm")

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gather", "Split", "Expand")


def name_transposed(graph: onnx.GraphProto, parameters: Mapping[str, Tensor]) -> None:
    """Name initializers that are transposed parameters after these, with `TRANSPOSED` behind.

    Args:
        graph: the export; renamed in place.
        parameters: of the network that was exported, by name, no two with the same entries.
    """
    first_rows = {
        (tuple(one.t().shape), one.detach()[:, 0].numpy().tobytes()): f"{name}{TRANSPOSED}"
        for name, one in parameters.items()
        if one.dim() == 2 and one.numel()
    }
    names: dict[str, str] = {}
    for one in list(graph.initializer):
        if len(one.dims) == 2 and one.name not in parameters and 0 not in one.dims:
            name = first_rows.get((tuple(one.dims), numpy_helper.to_array(one)[0].tobytes()))
            if name in names.values():  # a layer that is used twice, its weight transposed twice
                graph.initializer.remove(one)
            if name is not None:
                names[one.name] = name
                one.name = name
    for node in graph.node:
        for at, given in enumerate(node.input):
            node.input[at] = names.get(given, given)


def parameter_of(name: str, parameters: Container[str]) -> tuple[str, bool] | None:
    """Return the parameter that an initializer is, and whether it is transposed; None where it is none."""
    if name in parameters:
        return name, False
    plain = name.removesuffix(TRANSPOSED)
    return (plain, True) if plain != name and plain in parameters else None


@dataclass(eq=False)
class _Tensors:
    """What is known of the tensors, as far as the graph was walked through.

    Attributes:
        channels: the groups.
        shapes: of all tensors, by name.
        axes: how many channels those have that nodes have given.
        places: which dimension these are.
        transposed: what nodes have given that is a parameter's transpose.
    """

    channels: ChannelGraph
    shapes: Mapping[str, tuple[int, ...]]
    axes: dict[str, Axis] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    transposed: dict[str, str] = field(default_factory=dict)

    def rank(self, name: str) -> int:
        return len(self.shapes.get(name, ()))

    def place(self, name: str) -> int:
        """Return which dimension of a tensor holds the channels; of tokens, which no node has given, the last."""
        return self.places.get(name, _usual_place(self.rank(name)))

    def size(self, name: str) -> int:
        """Return how many channels a tensor has in the dense network."""
        shape, place = self.shapes.get(name, ()), self.place(name)
        return shape[place] if place < len(shape) else 1

    def axis(self, name: str) -> Axis:
        return self.axes.get(name) or Axis(fixed=self.size(name))

    def positions(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without batch and channels."""
        place = self.place(name)
        return tuple(size for dim, size in enumerate(self.shapes.get(name, ())) if dim not in (0, place))

    def dense(self, axis: Axis) -> int:
        """Return the size of a dimension in the dense network."""
        return axis.width({name: group.channels for name, group in self.channels.groups.items()})

    def weight_axis(self, name: str, dim: int) -> Axis | None:
        """Return how a dimension of an initializer is made up; None where it is no parameter's."""
        found = parameter_of(self.transposed.get(name, name), self.channels.shapes)
        if found is None:
            return None
        parameter, transposed = found
        return self.channels.axis(parameter, 1 - dim if transposed else dim)


def engine_nodes(graph: onnx.GraphProto, channels: ChannelGraph) -> dict[str, EngineNode]:
    """Return the nodes of an exported network by name, in the order of execution.

    Args:
        graph: the network, its shapes not inferred.
        channels: its groups.
    """
    opset = onnx.helper.make_opsetid("", OPSET)
    typed = shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=[opset]))
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in [*typed.graph.value_info, *typed.graph.input, *typed.graph.output]
    }
    shapes |= {one.name: tuple(one.dims) for one in graph.initializer}
    weights = {one.name for one in graph.initializer}
    tensors = _Tensors(channels, shapes)
    given = {one.name for one in graph.input} - weights
    nodes = {}
    for node in graph.node:
        first = next((name for name in node.input if name and name not in weights), node.output[0])
        if node.op_type in _CONVOLUTIONS and not tensors.axis(first).parts:
            tensors.places[first] = 1
            tensors.axes.pop(first, None)
        if node.op_type == "Transpose" and node.input[0] in channels.shapes and tensors.rank(node.input[0]) == 2:
            tensors.transposed[node.output[0]] = f"{node.input[0]}{TRANSPOSED}"
        cin = _in_axis(node, first, tensors)
        tensors.places[node.output[0]] = _out_place(node, first, tensors)
        cout = _out_axis(node, cin, tensors)
        tensors.axes[node.output[0]] = cout
        detail = _detail(node, shapes, given)
        if node.op_type == "Resize":  # how far it goes is told by no attribute
            detail = f"{detail} out={_text(tensors.positions(node.output[0]))}"
        # A factor a channel may be the first of what a Mul joins: what it takes is in the other one.
        sized = node.output[0] if node.op_type in JOINS else first
        nodes[node.name] = EngineNode(node.name, node.op_type, detail, tensors.positions(sized), cin, cout)
    return nodes


def _usual_place(rank: int) -> int:
    return 2 if rank == 3 else min(1, max(rank - 1, 0))


def _out_place(node: onnx.NodeProto, first: str, tensors: _Tensors) -> int:
    """Return which dimension of a node's output holds its channels."""
    rank, place = tensors.rank(node.output[0]), tensors.place(first)
    if node.op_type in _CONVOLUTIONS:
        return 1
    if node.op_type in PRODUCTS:
        return max(rank - 1, 0)
    if node.op_type in _RESHAPING or rank != tensors.rank(first):
        return _usual_place(rank)
    if node.op_type == "Transpose":
        known = first in tensors.axes and bool(tensors.axes[first].parts)
        order = _attribute(node, "perm") or range(rank)[::-1]
        return list(order).index(place) if known else _usual_place(rank)
    return place


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def _detail(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], given: set[str]) -> str:
    """Return what decides a node's time besides its sizes.

    What reads the network's input (`given`) has it in another layout than layers hand on to each other. Measured on
    OpenVINO, 3x3 at 32 x 32 from 3 channels to 14: 31 us there, 24 us inside the network.
    """
    values = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    parts = [f"{name}={_text(values[name])}" for name in _DETAILS if name in values]
    group = values.get("group", 1)
    if group > 1:
        per_group = shapes[node.input[1]][1]
        depthwise = per_group == 1 and shapes[node.input[1]][0] == group
        parts.append("depthwise" if depthwise else f"channels_per_group={per_group}")
    if not given.isdisjoint(node.input):
        parts.append("reads=input")
    return " ".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return "x".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)


def _in_axis(node: onnx.NodeProto, first: str, tensors: _Tensors) -> Axis:
    """Return how the channels that come in follow from the plan.

    The weight of a product knows it where the tensor does not: behind a split, a shuffle or heads put together.
    """
    cin = tensors.axis(first)
    if node.op_type not in PRODUCTS or _attribute(node, "group", 1) != 1 or len(node.input) < 2:
        return cin
    own = tensors.weight_axis(node.input[1], _in_dim(node))
    return own if own is not None and tensors.dense(own) == tensors.dense(cin) else cin


def _in_dim(node: onnx.NodeProto) -> int:
    """Return which dimension of a product's weight the channels that come in are."""
    return int(node.op_type == "Conv" or bool(_attribute(node, "transB", 0)))


def _out_axis(node: onnx.NodeProto, cin: Axis, tensors: _Tensors) -> Axis:
    """Return how the output's channels follow from the plan; where that can't be seen, their number is fixed."""
    size = tensors.size(node.output[0])
    rule = _AXIS_RULES.get(node.op_type)
    found = rule(node, cin, tensors) if rule else None
    if rule is None:
        candidates = [tensors.axes[name] for name in node.input if name in tensors.axes]
        found = next((one for one in candidates if tensors.dense(one) == size), None)
    return found if found is not None and tensors.dense(found) == size else Axis(fixed=size)


def _conv(node: onnx.NodeProto, cin: Axis, tensors: _Tensors) -> Axis | None:
    return tensors.weight_axis(node.input[1], 0)


def _gemm(node: onnx.NodeProto, cin: Axis, tensors: _Tensors) -> Axis | None:
    return tensors.weight_axis(node.input[1], 0 if _attribute(node, "transB", 0) else 1)


def _conv_transpose(node: onnx.NodeProto, cin: Axis, tensors: _Tensors) -> Axis | None:
    return tensors.weight_axis(node.input[1], 1)


def _concat(node: onnx.NodeProto, cin: Axis, tensors: _Tensors) -> Axis | None:
    out = node.output[0]
    if _attribute(node, "axis") % max(tensors.rank(out), 1) != tensors.place(out):
        return cin
    total = Axis()
    for name in node.input:
        total += tensors.axis(name)
    return total


def _flatten(node: onnx.NodeProto, cin: Axis, tensors: _Tensors) -> Axis | None:
    before, after = (tensors.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    if len(before) > 2 and len(after) == 2 and tensors.place(node.input[0]) == 1 and tensors.dense(cin) == before[1]:
        each = int(np.prod(before[2:]))
        return Axis(cin.fixed * each, {group: count * each for group, count in cin.parts.items()})
    return cin


def _pad(node: onnx.NodeProto, cin: Axis, tensors: _Tensors) -> Axis | None:
    before, after = (tensors.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    return cin + Axis(fixed=tensors.size(node.output[0]) - tensors.size(node.input[0])) if before and after else cin


AxisRule = Callable[[onnx.NodeProto, Axis, _Tensors], Axis | None]

_AXIS_RULES: dict[str, AxisRule] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _gemm,
    "ConvTranspose": _conv_transpose,
    "Concat": _concat,
    "Reshape": _flatten,
    "Flatten": _flatten,
    "Pad": _pad,
}
