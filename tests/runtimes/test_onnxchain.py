from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeprune.runtimes.onnxchain import chain_of


@pytest.mark.parametrize("count", [1, 3, 200])
def test_a_chain_is_a_model_of_so_many_nodes(count: int) -> None:
    model = onnx.load_from_string(chain_of(count))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Sigmoid"] * count


def test_a_chain_computes() -> None:
    session = onnxruntime.InferenceSession(chain_of(2), providers=["CPUExecutionProvider"])
    (found,) = session.run(["x2"], {"x0": np.zeros((1, 1, 1, 1), np.float32)})
    # The sigmoid of 0 is a half, and that of a half is 1 / (1 + exp(-1/2)).
    assert found.item() == pytest.approx(1 / (1 + math.exp(-0.5)))
