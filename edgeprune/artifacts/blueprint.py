"""One exported network -> its ONNX model at any width plan, without exporting again.

An export takes seconds and a table needs dozens of networks, so the dense network is exported once and its initializers
are cut as the plan says. Latency does not depend on the values, only on the shapes. Where a shape is written into the
exported graph in a way that can't be followed, the network is cut and exported the slow way.
"""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper, shape_inference
from torch import nn

from edgeprune.artifacts.engine_nodes import engine_nodes, name_transposed, parameter_of
from edgeprune.artifacts.exports import kept_export, random_entries
from edgeprune.artifacts.liveness import with_conditions
from edgeprune.artifacts.onnx import export_onnx
from edgeprune.artifacts.tidy import drop_empty, drop_unused, without_constants, without_weights
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import EngineNode
from edgeprune.graph.plan import WidthPlan
from edgeprune.pruning.fuse import fuse
from edgeprune.pruning.slim import slim


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
        name_transposed(proto.graph, dict(dense.named_parameters()))
        _free_shapes(proto.graph)
        return proto

    @cached_property
    def nodes(self) -> dict[str, EngineNode]:
        """The nodes of the dense network by name, in the order of execution."""
        return with_conditions(engine_nodes(self._dense.graph, self.graph), self._dense.graph, self.graph)

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


def _cuts_of(initializer: onnx.TensorProto, graph: ChannelGraph, plan: WidthPlan) -> dict[int, np.ndarray]:
    """Return dimension -> entries that stay, of an initializer."""
    name, cuts = initializer.name, plan.cuts.tensors
    found = parameter_of(name, graph.shapes)
    if found is not None:
        parameter, transposed = found
        return {1 - dim if transposed else dim: kept for dim, kept in cuts.get(parameter, {}).items()}
    layer = name.removesuffix(".bias")
    if layer != name and f"{layer}.weight" in graph.outputs:  # a BatchNorm's, folded into a layer that has none
        behind = dict(graph.foldable).get(layer)
        source, dim = (
            (f"{layer}.weight", graph.outputs[f"{layer}.weight"]) if behind is None else (f"{behind}.running_mean", 0)
        )
        kept = cuts.get(source, {}).get(dim)
        return {} if kept is None else {0: kept}
    return {}


def _cut_onnx(dense: onnx.ModelProto, graph: ChannelGraph, plan: WidthPlan) -> onnx.ModelProto:
    proto = without_weights(dense)
    cuts = plan.cuts
    emptied = []
    for initializer in dense.graph.initializer:
        dims = _cuts_of(initializer, graph, plan)
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
