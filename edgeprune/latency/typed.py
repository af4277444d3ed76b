"""A network as TensorRT takes it: in the types that the engine computes in, and an opset that all versions read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.errors import InputError

_HALF_SCALES = 19  # from this opset on QuantizeLinear and DequantizeLinear have float16
_WIDELY_READ = 17


def typed(model: bytes, precision: str) -> bytes:
    """Return a float32 ONNX model in the types of a precision: `fp32` as it is, `fp16` with float32 at its ends.

    Weights and tensors between become float16; a Cast stands at every input and output, and around operators that
    have no float16. The nodes keep their names. A model that has float16 weights already is left alone. In an int8
    model what is not int8 becomes float16, scales included, which takes opset 19.

    Raises:
        InputError: a precision that a model is not converted to here.
    """
    if precision == "fp32":
        return model
    if precision != "fp16":
        raise InputError(f"a model is not converted to {precision} here", remedy="use --precision fp16 or fp32")
    proto = onnx.load_model_from_string(model)
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in proto.graph.initializer):
        return model
    if any(node.op_type == "QuantizeLinear" for node in proto.graph.node) and _opset(proto) < _HALF_SCALES:
        proto = onnx.version_converter.convert_version(proto, _HALF_SCALES)
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    proto = convert_float_to_float16(proto, keep_io_types=True)
    OnnxModel.graph_topological_sort(proto.graph)  # the casts were put at the end, where no other reader takes them
    return bytes(proto.SerializeToString())


def widely_read(model: bytes) -> bytes:
    """Return a model of opset 18 in opset 17; any other, and one that uses what only 18 has, as it is.

    TensorRT 8 takes opset 18 and passes over the axes of its reductions, which are an input there: it reduces over all
    dimensions (github.com/NVIDIA/TensorRT/issues/3467).
    """
    proto = onnx.load_model_from_string(model)
    if _opset(proto) != _WIDELY_READ + 1:
        return model
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.output]
    }
    constants = {one.name: numpy_helper.to_array(one).tolist() for one in proto.graph.initializer if len(one.dims) == 1}
    try:
        for node in proto.graph.node:
            if rewrite := _REWRITES.get(node.op_type):
                rewrite(node, proto.graph, shapes, constants)
        next(one for one in proto.opset_import if one.domain in ("", "ai.onnx")).version = _WIDELY_READ
        onnx.checker.check_model(proto)
    except (KeyError, onnx.checker.ValidationError):  # a size that is not known; what only 18 has
        return model
    used = {name for node in proto.graph.node for name in node.input}
    kept = [one for one in proto.graph.initializer if one.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return bytes(proto.SerializeToString())


_Shapes = Mapping[str, list[int]]


def _reduce(node: onnx.NodeProto, graph: onnx.GraphProto, shapes: _Shapes, constants: _Shapes) -> None:
    """Make the axes an attribute."""
    if len(node.input) > 1:
        axes = constants[node.input[1]]
        del node.input[1:]
        _set_attributes(node, {"axes": axes}, dropped=("noop_with_empty_axes",))


def _resize(node: onnx.NodeProto, graph: onnx.GraphProto, shapes: _Shapes, constants: _Shapes) -> None:
    """Give the sizes of all dimensions."""
    if len(node.input) > 3:
        node.input[3] = _add(graph, f"{node.output[0]}.sizes", shapes[node.output[0]])
        _set_attributes(node, {}, dropped=("axes", "keep_aspect_ratio_policy"))


def _split(node: onnx.NodeProto, graph: onnx.GraphProto, shapes: _Shapes, constants: _Shapes) -> None:
    """Give the sizes of all parts."""
    if len(node.input) < 2:
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        node.input.append(_add(graph, f"{node.output[0]}.split", [shapes[name][axis] for name in node.output]))
        _set_attributes(node, {}, dropped=("num_outputs",))


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_REWRITES = {**{f"Reduce{name}": _reduce for name in _REDUCTIONS}, "Resize": _resize, "Split": _split}


def _set_attributes(node: onnx.NodeProto, given: Mapping[str, list[int]], dropped: Sequence[str]) -> None:
    kept = [one for one in node.attribute if one.name not in (*given, *dropped)]
    del node.attribute[:]
    node.attribute.extend([*kept, *(onnx.helper.make_attribute(name, value) for name, value in given.items())])


def _add(graph: onnx.GraphProto, name: str, values: list[int]) -> str:
    """Add sizes as an initializer.

    Raises:
        KeyError: one of them is not known.
    """
    if not all(values):
        raise KeyError(name)
    graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _opset(proto: onnx.ModelProto) -> int:
    return next(int(one.version) for one in proto.opset_import if one.domain in ("", "ai.onnx"))
