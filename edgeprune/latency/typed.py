"""A network in the types that an engine is to compute in, where its runtime takes these from the model."""

from __future__ import annotations

import onnx

from edgeprune.errors import InputError

_HALF_SCALES = 19  # from this opset on QuantizeLinear and DequantizeLinear have float16


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


def _opset(proto: onnx.ModelProto) -> int:
    return next(int(one.version) for one in proto.opset_import if one.domain in ("", "ai.onnx"))
