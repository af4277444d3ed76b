"""What the stand-ins of TensorRT make of an ONNX model: its ports, and the layers of its engine."""

from __future__ import annotations

import math
from typing import Any

import onnxruntime
from onnx import TensorProto

TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}
_SAID = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8", "INT32": "Int32"}
_KINDS = {
    "Conv": "CaskConvolution",
    "Gemm": "CaskGemmConvolution",
    "MatMul": "CaskGemmMatrixMultiply",
    "Cast": "Reformat",
}
QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
_FOLDED = ("Flatten", "Reshape", "Identity", "DequantizeLinear")


def ports(model: Any) -> tuple[list[Any], list[Any]]:
    stored = {one.name for one in model.graph.initializer}
    return [port for port in model.graph.input if port.name not in stored], list(model.graph.output)


def values_of(model: Any) -> dict[str, Any]:
    graph = model.graph
    return {value.name: value for value in [*graph.input, *graph.value_info, *graph.output]}


def sizes(port: Any) -> list[int]:
    return [dim.dim_value for dim in port.type.tensor_type.shape.dim]


def session_of(model: bytes) -> Any:
    """Open a model as it is written: ONNX Runtime's own int8 kernels misread float16 scales in larger networks."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def fused(model: Any, *, half: bool, version: str) -> list[dict[str, Any]]:
    """Return the engine's layers.

    A Conv takes the Add and the Relu behind it in, if nothing else reads between, and the Q/DQ nodes of its inputs. A
    QuantizeLinear behind such a group is its output's type; any other is a change of type of its own.
    """
    values = values_of(model)
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    position = {id(node): at for at, node in enumerate(model.graph.node)}
    producer = {name: node for node in model.graph.node for name in node.output}
    shown = [port.name for port in ports(model)[0]]
    taken: set[int] = set()
    groups = []
    for node in model.graph.node:
        alone = node.op_type != "QuantizeLinear" or _changes_type(node, producer, shown)
        if id(node) in taken or node.op_type in _FOLDED or not alone:
            continue
        group = [node]
        while group[0].op_type == "Conv" and len(readers.get(group[-1].output[0], [])) == 1:
            behind = readers[group[-1].output[0]][0]
            sources = [_unquantized(name, producer) for name in behind.input]
            others = [producer[name] for name in sources if name in producer and producer[name] is not group[-1]]
            late = all(position[id(one)] < position[id(node)] for one in others)
            if behind.op_type not in ("Add", "Relu") or not late or group[-1].op_type == "Relu":
                break
            group.append(behind)
            taken.add(id(behind))
        groups.append(group)
    groups = [[*_quantizing(group, producer), *group] for group in groups]
    first = _layer("Reformatting CopyNode for Input Tensor 0 to " + groups[0][0].name, "Reformat", "", "Float", 0.002)
    return [first, *(_layer_of(group, values, model, half=half, version=version) for group in groups)]


def _changes_type(node: Any, producer: dict[str, Any], shown: list[str]) -> bool:
    """Whether a QuantizeLinear is a layer: it is none of a weight, nor of what a fused group writes."""
    source = producer.get(node.input[0])
    return node.input[0] in shown if source is None else source.op_type not in ("Conv", "Add", "Relu")


def _unquantized(name: str, producer: dict[str, Any]) -> str:
    """Return the float tensor that a Q/DQ pair reads."""
    while name in producer and producer[name].op_type in QUANTIZING:
        name = producer[name].input[0]
    return str(name)


def _quantizing(group: list[Any], producer: dict[str, Any]) -> list[Any]:
    """Return the nodes that make a group's inputs int8: every DequantizeLinear, and a weight's QuantizeLinear."""
    found = []
    for name in [name for node in group for name in node.input if node.op_type not in QUANTIZING]:
        if name in producer and producer[name].op_type == "DequantizeLinear":
            code = producer[producer[name].input[0]]
            found += [*([code] if code.input[0] not in producer else []), producer[name]]
    return found


def _layer_of(group: list[Any], values: dict[str, Any], model: Any, *, half: bool, version: str) -> dict[str, Any]:
    node = next((one for one in group if one.op_type not in QUANTIZING), group[0])
    producer = {name: one for one in model.graph.node for name in one.output}
    said = _SAID.get(TYPES.get(values[group[-1].output[0]].type.tensor_type.elem_type, ""), "Int64")
    said = "Half" if half and said == "Float" else said
    said = "Int8" if group[0].op_type in QUANTIZING else said
    weights = {one.name: math.prod(one.dims) for one in model.graph.initializer}
    positions = math.prod(sizes(values[node.output[0]])[2:])
    counts = [weights.get(_unquantized(name, producer), 0) for name in node.input]
    ms = 0.001 + (5e-9 if said == "Int8" else 1e-8) * positions * max(counts, default=0)
    separator = "\x1e" if version.startswith("8") else "\x1f"
    metadata = separator.join(f"[ONNX Layer: {one.name}]" for one in group)
    kind = "Reformat" if node.op_type in QUANTIZING else _KINDS.get(node.op_type, node.op_type)
    return _layer(" + ".join(one.name for one in group), kind, metadata, said, ms)


def _layer(name: str, kind: str, metadata: str, said: str, ms: float) -> dict[str, Any]:
    outputs = [{"Name": "out", "Dimensions": [1], "Format/Datatype": said}]
    return {"Name": name, "LayerType": kind, "Outputs": outputs, "Metadata": metadata, "ms": ms}
