"""Small ONNX models, made with onnx alone; every node is named after the tensor that it writes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Adds nodes to a graph one after the other; each method returns the name of the tensor written."""

    def __init__(self, **inputs: list[int]) -> None:
        self.inputs = inputs
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def op(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str, *shape: int, scale: float = 0.1) -> str:
        values = (self.random.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, name: str, source: str, inside: int, outside: int, kernel: int, group: int = 1) -> str:
        weight = self.weight(f"{name}.weight", outside, inside // group, kernel, kernel)
        bias = self.weight(f"{name}.bias", outside)
        return self.op("Conv", name, source, weight, bias, pads=[kernel // 2] * 4, group=group)

    def model(self, **outputs: list[int]) -> bytes:
        def info(name: str, shape: list[int]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            self.nodes,
            "test",
            [info(name, shape) for name, shape in self.inputs.items()],
            [info(name, shape) for name, shape in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


def residual(channels: int = 16, size: int = 12, batch: int = 1) -> bytes:
    """Stem, one residual block, a depthwise convolution, pooling, a classifier with 10 outputs."""
    build = Builder(input=[batch, 3, size, size])
    stem = build.op("Relu", "stem.relu", build.conv("stem.conv", "input", 3, channels, 3))
    inner = build.op("Relu", "layer1.0.relu", build.conv("layer1.0.conv1", stem, channels, channels, 3))
    outer = build.conv("layer1.0.conv2", inner, channels, channels, 3)
    joined = build.op("Relu", "layer1.0.relu_1", build.op("Add", "layer1.0.add", outer, stem))
    deep = build.op("Sigmoid", "sigmoid", build.conv("depthwise", joined, channels, channels, 3, channels))
    flat = build.op("Flatten", "flatten", build.op("GlobalAveragePool", "pool", deep))
    weight, bias = build.weight("fc.weight", 10, channels), build.weight("fc.bias", 10)
    build.op("Gemm", "fc", flat, weight, bias, transB=1)
    return build.model(fc=[batch, 10])


def scale_and_shift() -> bytes:
    """Two inputs and two outputs of shape 1 x 2: twice the first, and the sum of both."""
    build = Builder(left=[1, 2], right=[1, 2])
    build.weights.append(numpy_helper.from_array(np.float32([2.0]), "two"))
    build.op("Mul", "double", "left", "two")
    build.op("Add", "sum", "left", "right")
    return build.model(double=[1, 2], sum=[1, 2])
