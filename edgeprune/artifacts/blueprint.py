"""One exported network -> its ONNX model at any width plan, without exporting again.

An export takes seconds and a table needs dozens of networks, so the dense network is exported once and its initializers
are cut as the plan says. Latency does not depend on the values, only on the shapes. Where a shape is written into the
exported graph in a way that can't be followed, the network is cut and exported the slow way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper, shape_inference
from torch import nn

from edgeprune.artifacts.exports import kept_export, random_entries
from edgeprune.artifacts.liveness import with_conditions
from edgeprune.artifacts.onnx import OPSET, export_onnx
from edgeprune.artifacts.tidy import drop_empty, drop_unused, without_constants, without_weights
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import JOINS, Axis, EngineNode
from edgeprune.graph.plan import WidthPlan
from edgeprune.pruning.fuse import fuse
from edgeprune.pruning.slim import slim

_DETAILS = ("kernel_shape", "strides", "pads", "dilations", "auto_pad", "mode", "axis", "keepdims", "perm")


class Blueprint:
    """A network that can be had as ONNX at any width plan.

    Args:
        model: the dense network, BatchNorm not folded.
        graph: its channel groups.
        exports: a folder in which exports are kept from run to run; None keeps none.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, exports: Path | None = None) -> None:
        self.graph = graph
        self._model = model
        self._dense = (
            self._exported_dense() if exports is None else kept_export(exports, graph, model, self._exported_dense)
        )

    def _exported_dense(self) -> onnx.ModelProto:
        dense = fuse(_with_distinct_weights(self._model), self.graph.foldable)
        proto = _inferred(export_onnx(dense, self.graph.example_inputs, simplify=False))
        _free_shapes(proto.graph)
        return proto

    @cached_property
    def nodes(self) -> dict[str, EngineNode]:
        """The nodes of the dense network by name, in the order of execution."""
        return with_conditions(_engine_nodes(self._dense.graph, self.graph), self._dense.graph, self.graph)

    def at(self, plan: WidthPlan) -> bytes:
        """Return the network at `plan` as a serialized ONNX model; its weights are random."""
        # Sizes that the network's code reads are constants of the exported graph.
        written = any(not key.endswith(".groups") for key in plan.cuts.attributes)
        proto = self.exported(plan) if written else _cut_onnx(self._dense, self.graph, plan)
        try:
            shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
        except shape_inference.InferenceError:
            proto = self.exported(plan)
        if not all(plan.widths.values()):
            proto = without_constants(proto)
        return bytes(proto.SerializeToString())

    def exported(self, plan: WidthPlan) -> onnx.ModelProto:
        """Return the network at `plan`, cut in torch and exported: slower, and never in doubt."""
        small = fuse(slim(self._model, plan), self.graph.foldable)
        return export_onnx(small, self.graph.example_inputs, simplify=False)


def _with_distinct_weights(model: nn.Module) -> nn.Module:
    """Return a copy with random weights: the exporter merges equal tensors and drops zero biases, whatever the plan."""
    copied = copy.deepcopy(model)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*copied.named_parameters(), *copied.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(random_entries(name, tensor.shape, random))
    return copied


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    return shape_inference.infer_shapes(proto, data_prop=True)


def _free_shapes(graph: onnx.GraphProto) -> None:
    """Take the number of channels out of constants.

    Each reshape works out its largest dimension, which is where the channels are after a flatten; a resize is told the
    sizes of the positions alone.
    """
    constants = {one.name: one for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in constants:
            sizes = numpy_helper.to_array(constants[node.input[3]])
            if len(sizes) > 2 and not any(one.name == "axes" for one in node.attribute):
                positions = numpy_helper.from_array(sizes[2:].copy(), f"{node.name}.sizes")
                graph.initializer.append(positions)
                node.input[3] = positions.name
                node.attribute.append(onnx.helper.make_attribute("axes", list(range(2, len(sizes)))))
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if -1 not in shape and 0 not in shape:
                shape[int(np.argmax(shape))] = -1
                free = numpy_helper.from_array(shape, f"{node.name}.shape")
                graph.initializer.append(free)
                node.input[1] = free.name
    drop_unused(graph)
    del graph.value_info[:]


def _slot_of(name: str, graph: ChannelGraph) -> str | None:
    """Return the state-dict tensor whose cuts an initializer shares."""
    if name in graph.shapes:
        return name
    weight = name.removesuffix(".bias") + ".weight"
    return weight if name.endswith(".bias") and weight in graph.shapes else None


def _cut_onnx(dense: onnx.ModelProto, graph: ChannelGraph, plan: WidthPlan) -> onnx.ModelProto:
    proto = without_weights(dense)
    cuts = plan.cuts
    emptied = []
    for initializer in dense.graph.initializer:
        source = _slot_of(initializer.name, graph)
        dims = cuts.tensors.get(source or "", {})
        if source is not None and source != initializer.name:
            dims = {dim: kept for dim, kept in dims.items() if dim == 0}
        if dims:
            array = numpy_helper.to_array(initializer)
            for dim, kept in dims.items():
                array = array.take(kept, axis=dim)
            emptied += [initializer.name] * (array.size == 0)
            initializer = numpy_helper.from_array(np.ascontiguousarray(array), initializer.name)
        proto.graph.initializer.append(initializer)
    for node in proto.graph.node:
        group = next((one for one in node.attribute if one.name == "group" and one.i > 1), None)
        if group is not None:
            module = node.input[1].rpartition(".")[0]
            group.i = max(1, cuts.attributes.get(f"{module}.groups", group.i))
    drop_empty(proto.graph, emptied)
    return proto


def _engine_nodes(graph: onnx.GraphProto, channels: ChannelGraph) -> dict[str, EngineNode]:
    opset = onnx.helper.make_opsetid("", OPSET)
    typed = shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=[opset]))
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in [*typed.graph.value_info, *typed.graph.input, *typed.graph.output]
    }
    shapes |= {one.name: tuple(one.dims) for one in graph.initializer}
    weights = {one.name for one in graph.initializer}
    axes: dict[str, Axis] = {}
    given = {one.name for one in graph.input} - weights
    nodes = {}
    for node in graph.node:
        first = next((name for name in node.input if name and name not in weights), node.output[0])
        cin = axes.get(first) or Axis(fixed=_channels(shapes.get(first, ())))
        cout = _out_axis(node, cin, axes, shapes, weights, channels)
        axes[node.output[0]] = cout
        detail = _detail(node, shapes, channels, given)
        # A factor a channel may be the first of what a Mul joins: what it takes is in the other one.
        sized = node.output[0] if node.op_type in JOINS else first
        nodes[node.name] = EngineNode(node.name, node.op_type, detail, _positions(shapes.get(sized, ())), cin, cout)
    return nodes


def _channels(shape: Sequence[int]) -> int:
    if len(shape) < 2:
        return shape[0] if shape else 1
    return shape[1] if len(shape) != 3 else shape[-1]


def _positions(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[2:]) if len(shape) != 3 else tuple(shape[1:-1])


def _detail(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]], channels: ChannelGraph, given: set[str]) -> str:
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


def _out_axis(
    node: onnx.NodeProto,
    cin: Axis,
    axes: Mapping[str, Axis],
    shapes: Mapping[str, Sequence[int]],
    weights: set[str],
    channels: ChannelGraph,
) -> Axis:
    """Return how the output's channels follow from the plan; where that can't be seen, their number is fixed."""
    size = _channels(shapes.get(node.output[0], ()))
    rule = _AXIS_RULES.get(node.op_type)
    found = rule(node, cin, axes, shapes, channels) if rule else None
    if found is None and node.op_type not in _AXIS_RULES:
        candidates = [axes[name] for name in node.input if name in axes]
        found = next((one for one in candidates if _dense(one, channels) == size), None)
    return found if found is not None and _dense(found, channels) == size else Axis(fixed=size)


def _dense(axis: Axis, channels: ChannelGraph) -> int:
    return axis.width({name: group.channels for name, group in channels.groups.items()})


def _weight_axis(node: onnx.NodeProto, channels: ChannelGraph, dim: int) -> Axis | None:
    tensor = node.input[1]
    return channels.axis(tensor, dim) if tensor in channels.shapes else None


def _conv(node: onnx.NodeProto, cin: Axis, axes: Any, shapes: Any, channels: ChannelGraph) -> Axis | None:
    return _weight_axis(node, channels, 0)


def _gemm(node: onnx.NodeProto, cin: Axis, axes: Any, shapes: Any, channels: ChannelGraph) -> Axis | None:
    transposed = next((one.i for one in node.attribute if one.name == "transB"), 0)
    return _weight_axis(node, channels, 0 if transposed else 1)


def _conv_transpose(node: onnx.NodeProto, cin: Axis, axes: Any, shapes: Any, channels: ChannelGraph) -> Axis | None:
    return _weight_axis(node, channels, 1)


def _concat(
    node: onnx.NodeProto,
    cin: Axis,
    axes: Mapping[str, Axis],
    shapes: Mapping[str, Sequence[int]],
    channels: ChannelGraph,
) -> Axis | None:
    dim = next(one.i for one in node.attribute if one.name == "axis") % max(len(shapes.get(node.output[0], (0,))), 1)
    if dim != 1:
        return cin
    total = Axis()
    for name in node.input:
        total += axes.get(name) or Axis(fixed=_channels(shapes.get(name, ())))
    return total


def _flatten(
    node: onnx.NodeProto, cin: Axis, axes: Any, shapes: Mapping[str, Sequence[int]], channels: ChannelGraph
) -> Axis | None:
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    if len(before) > 2 and len(after) == 2 and _dense(cin, channels) == before[1]:
        each = int(np.prod(before[2:]))
        return Axis(cin.fixed * each, {group: count * each for group, count in cin.parts.items()})
    return cin


def _pad(
    node: onnx.NodeProto, cin: Axis, axes: Any, shapes: Mapping[str, Sequence[int]], channels: ChannelGraph
) -> Axis | None:
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    return cin + Axis(fixed=_channels(after) - _channels(before)) if before and after else cin


AxisRule = Callable[[onnx.NodeProto, Axis, Mapping[str, Axis], Mapping[str, Sequence[int]], ChannelGraph], Axis | None]

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
