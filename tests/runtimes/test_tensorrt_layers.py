from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import DeviceError, InputError
from edgeprune.runtimes.base import LayerTime
from edgeprune.runtimes.onnxgraph import read_nodes
from edgeprune.runtimes.tensorrt_layers import (
    EngineLayer,
    medians,
    precision_of,
    read_layers,
    read_profile,
    rows,
    shares,
)
from tests.onnx_models import residual

GOLDEN = Path(__file__).parent / "golden"
NODES = read_nodes(residual())


def golden(name: str) -> str:
    return (GOLDEN / name).read_bytes().decode()


def test_reads_a_detailed_engine_with_its_control_characters() -> None:
    text = golden("layers-8.6-detailed.json")
    assert "\x1e" in text
    layers = read_layers(text)
    assert [layer.name for layer in layers if layer.name == "copy"] == ["copy", "copy"]
    assert "signal 1" not in [layer.name for layer in layers]
    assert layers[1].types == ("fp16", "fp16")
    assert layers[-1].types == ("fp32",)


def test_every_layer_gets_its_nodes_and_its_time() -> None:
    found = rows(read_layers(golden("layers-8.6-detailed.json")), read_profile(golden("profile-8.6.json")), NODES)
    assert found == [
        LayerTime((), "Reformat", pytest.approx(5.1)),
        LayerTime(("stem.conv", "stem.relu"), "CaskConvolution", pytest.approx(20)),
        LayerTime(("layer1.0.conv1", "layer1.0.relu"), "CaskConvolution", pytest.approx(30)),
        LayerTime(("layer1.0.conv2", "layer1.0.add", "layer1.0.relu_1"), "CaskConvolution", pytest.approx(40)),
        LayerTime(("depthwise", "sigmoid"), "PointWiseV2", pytest.approx(10)),
        # Two layers of one name: the second is the one whose metadata names a node.
        LayerTime((), "NoOp", pytest.approx(1)),
        LayerTime(("pool",), "NoOp", pytest.approx(2)),
        LayerTime(("fc", "flatten"), "gemm", pytest.approx(5)),
    ]
    # 5.1 of 113.1 us changed a layout, 1 of 113.1 is of nobody knows what.
    assert shares(found) == {"layers_us": "113.1", "reformat_share": "4.5%", "unattributed_share": "0.9%"}


def test_an_engine_that_only_has_names_says_most_by_them() -> None:
    layers = read_layers(golden("layers-10.3-names.json"))
    found = rows(layers, [(layer.name, 1.0) for layer in layers], NODES)
    region = ("layer1.0.conv2", "layer1.0.add", "layer1.0.relu_1", "depthwise", "sigmoid")
    assert [(row.kind, row.nodes) for row in found] == [
        ("Reformat", ()),
        ("Layer", ("stem.conv", "stem.relu")),
        ("Layer", ("layer1.0.conv1", "layer1.0.relu")),
        ("Myelin", region),
        ("Layer", ()),  # a Myelin kernel: TensorRT gives no node for it
        ("Layer", ("fc", "pool", "flatten")),
    ]
    assert precision_of(layers, "fp16")["precision_read_back"].startswith("no")


def test_reads_the_fields_that_tensorrt_11_split() -> None:
    (layer,) = read_layers(golden("layers-11.4-detailed.json"))
    assert layer.types == ("fp32", "fp32")
    assert precision_of([layer], "fp32") == {"precision": "fp32", "precision_read_back": "yes"}
    with pytest.raises(InputError, match="in fp32, not fp16"):
        precision_of([layer], "fp16")


@pytest.mark.parametrize(
    ("said", "type_"),
    [
        ("Half", "fp16"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Row major linear FP32", "fp32"),
        ("BFloat16", "bf16"),
        ("UInt8", None),
        ("Int32", None),
    ],
)
def test_types_by_all_their_names(said: str, type_: str | None) -> None:
    (layer,) = read_layers('[{"Name": "a", "LayerType": "b", "Outputs": [{"Format/Datatype": "' + said + '"}]}]')
    assert layer.types == (() if type_ is None else (type_,))


def test_int8_with_fp16_around_it_is_int8() -> None:
    layers = [EngineLayer("a", "gemm", "", ("fp16",)), EngineLayer("b", "gemm", "", ("int8", "fp16"))]
    assert precision_of(layers, "int8")["precision"] == "int8"
    # A change of type alone decides nothing.
    assert precision_of([*layers[:1], EngineLayer("c", "Reformat", "", ("int8",))], "fp16")["precision"] == "fp16"


@pytest.mark.parametrize("text", ["", "{", '{"Layers": 3}', "7"])
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(DeviceError):
        read_layers(text)


def test_medians_go_by_place() -> None:
    runs = [[("a", 1.0), ("a", 10.0)], [("a", 3.0), ("a", 30.0)], [("b", 99.0)], [("a", 2.0), ("a", 20.0)]]
    assert medians(runs) == [("a", 2.0), ("a", 20.0)]
    assert medians([]) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*(node.name for node in NODES), "x", "Reformatting CopyNode to fc"]), st.floats(0, 1e6)
        )
    )
)
def test_no_time_is_lost_or_invented(profile: list[tuple[str, float]]) -> None:
    layers = [EngineLayer(name, "any") for name, _ in profile[::2]]
    found = rows(layers, profile, NODES)
    assert [row.us for row in found] == [us for _, us in profile]
