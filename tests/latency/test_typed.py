"""Half-precision models, run by ONNX Runtime, which knows the type rules that TensorRT's strong typing holds to."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from edgeprune.errors import InputError
from edgeprune.latency.typed import typed
from tests.onnx_models import residual

INPUT = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)


def outputs(model: bytes) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": INPUT})[0]


def test_everything_between_the_ends_is_half() -> None:
    model = onnx.load_from_string(typed(residual(), "fp16"))
    onnx.checker.check_model(model, full_check=True)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT16}
    assert [port.type.tensor_type.elem_type for port in (*model.graph.input, *model.graph.output)] == [1, 1]


def test_names_stay_and_outputs_nearly() -> None:
    half = typed(residual(), "fp16")
    names = [node.name for node in onnx.load_from_string(half).graph.node if node.op_type != "Cast"]
    assert names == [node.name for node in onnx.load_from_string(residual()).graph.node]
    expected = outputs(residual())
    np.testing.assert_allclose(outputs(half), expected, atol=5e-3 * np.abs(expected).max())


def test_fp32_is_left_alone_and_others_are_refused() -> None:
    assert typed(residual(), "fp32") == residual()
    assert typed(typed(residual(), "fp16"), "fp16") == typed(residual(), "fp16")
    with pytest.raises(InputError, match="int8"):
        typed(residual(), "int8")
