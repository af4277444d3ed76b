from __future__ import annotations

import onnx
import pytest

from edgeprune.errors import InputError
from edgeprune.runtimes.onnxports import Port, read_ports
from tests.onnx_models import residual, scale_and_shift


def test_ports_by_name_and_in_order() -> None:
    assert read_ports(residual()) == ({"input": Port((1, 3, 12, 12), "float32")}, {"fc": Port((1, 10), "float32")})
    inputs, outputs = read_ports(scale_and_shift())
    assert (list(inputs), list(outputs)) == (["left", "right"], ["double", "sum"])


def test_a_constant_that_is_listed_as_an_input_is_none() -> None:
    model = onnx.load_from_string(scale_and_shift())
    model.graph.input.append(onnx.helper.make_tensor_value_info("two", onnx.TensorProto.FLOAT, [1]))
    assert list(read_ports(model.SerializeToString())[0]) == ["left", "right"]


def test_other_types() -> None:
    model = onnx.load_from_string(scale_and_shift())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    assert [port.numpy_type for port in read_ports(model.SerializeToString())[0].values()] == ["int64", "float16"]


@pytest.mark.parametrize("broken", [b"\xff\xff", residual()[:60]])
def test_refuses_what_is_no_model(broken: bytes) -> None:
    with pytest.raises(InputError):
        read_ports(broken)


def test_refuses_a_shape_that_is_not_fixed() -> None:
    model = onnx.load_from_string(residual())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(InputError, match="no fixed shape"):
        read_ports(model.SerializeToString())
