from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.onnx import export_onnx, name_after_modules
from edgeprune.errors import InputError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.fuse import fuse
from tests.nets import Chunked, Decoder, Depthwise, Pyramid, Residual

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def run(model: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: X.numpy()})[0])


@pytest.fixture(scope="module")
def residual() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


def test_computes_what_torch_computes(residual: nn.Module) -> None:
    proto = export_onnx(residual, (X,))
    onnx.checker.check_model(proto, full_check=True)
    with torch.no_grad():
        np.testing.assert_allclose(run(proto.SerializeToString()), residual(X).numpy(), rtol=1e-4, atol=1e-5)


def test_nodes_are_named_after_modules_and_outputs_after_nodes(residual: nn.Module) -> None:
    graph = trace(residual, X)
    proto = export_onnx(fuse(residual, graph.foldable), (X,))
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)
    convolutions = [node.name for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    assert convolutions == ["stem.0", "one.0", "one.3", "two.0", "two.3", "fc"]
    for node in proto.graph.node[:-1]:
        assert node.output[0] == node.name


def test_no_path_of_this_machine_is_shipped(residual: nn.Module) -> None:
    assert b"site-packages" not in export_onnx(residual, (X,)).SerializeToString()


def test_pooling_over_all_positions_is_one_node(residual: nn.Module) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pool(self.conv(x)).flatten(1)

    assert "GlobalAveragePool" in [node.op_type for node in export_onnx(Pooled(), (X,)).graph.node]


def test_training_mode_is_left_as_it_was() -> None:
    model = Residual().train()
    export_onnx(model, (X,))
    assert all(module.training for module in model.modules())


def test_what_cannot_be_exported_is_one_line() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(InputError, match="Broken can't be exported to ONNX"):
        export_onnx(Broken(), (X,))


@pytest.mark.parametrize("width", [1, 5])
def test_a_resize_follows_the_width(width: int) -> None:
    graph = trace(Pyramid().eval(), X)
    assert list(graph.groups) == ["fine"]
    blueprint = Blueprint(Pyramid().eval(), graph)
    small = blueprint.at(WidthPlan.from_scores(graph, {}, {"fine": width}))
    assert run(small).shape == (1, 4, *X.shape[-2:])
    sizes = {one.name: list(one.dims) for one in onnx.load_model_from_string(small).graph.initializer}
    assert sizes["last.weight"] == [4, width, 1, 1]
    assert sizes["upsample_nearest2d.sizes"] == [2]


@pytest.mark.parametrize("network", [Residual, Depthwise, Pyramid, Decoder, Chunked])
def test_a_blueprint_has_the_shapes_of_the_slow_way(network: type[nn.Module]) -> None:
    model = network().eval()
    graph = trace(model, X)
    blueprint = Blueprint(model, graph)
    random = np.random.default_rng(3)
    for _ in range(3):
        widths = {group.name: int(random.choice(group.possible[group.possible > 0])) for group in graph}
        plan = WidthPlan.from_scores(graph, {}, widths)
        fast, slow = onnx.load_model_from_string(blueprint.at(plan)), blueprint.exported(plan)
        sizes, expected = (
            {one.name: list(one.dims) for one in graph.initializer if one.name.endswith(".weight")}
            for graph in (fast.graph, slow.graph)
        )
        assert sizes == expected
        assert run(fast.SerializeToString()).shape == run(slow.SerializeToString()).shape


def test_the_size_of_every_node_follows_from_the_widths() -> None:
    model = Residual().eval()
    graph = trace(model, X)
    blueprint = Blueprint(model, graph)
    plan = WidthPlan.uniform(graph, 0.5)
    typed = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(blueprint.at(plan)))
    shapes = {value.name: value.type.tensor_type.shape.dim for value in typed.graph.value_info}
    for node in typed.graph.node:
        if node.output[0] in shapes:
            expected = shapes[node.output[0]][1].dim_value
            assert blueprint.nodes[node.name].cout.width(plan.widths) == expected, node.name


def test_a_name_that_a_folded_constant_kept_is_not_given_again() -> None:
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["a"], name="a"),
        onnx.helper.make_node("Add", ["a", "a#2"], ["a#3"], name="a#3"),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "a#3")]
    constant = onnx.numpy_helper.from_array(np.ones(1, np.float32), "a#2")
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [constant])
    name_after_modules(graph)
    assert [node.name for node in graph.node] == ["a", "a#3"]


def test_what_reads_the_input_is_on_no_staircase_of_what_does_not(residual: nn.Module) -> None:
    nodes = Blueprint(residual, trace(residual, X)).nodes
    reading = [name for name, node in nodes.items() if "reads=input" in node.detail]
    assert reading == ["stem.0"]
    kernel = "kernel_shape=3x3 strides=1x1 pads=1x1x1x1 dilations=1x1 auto_pad=NOTSET"
    assert (nodes["stem.0"].detail, nodes["one.0"].detail) == (f"{kernel} reads=input", kernel)
