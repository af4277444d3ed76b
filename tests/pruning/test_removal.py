from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgeprune.artifacts import bundle
from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.onnx import export_onnx
from edgeprune.errors import InputError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.compensate import compensate
from edgeprune.pruning.removal import Absent, Constant
from edgeprune.pruning.slim import cut, masked, slim, slim_error
from edgeprune.pruning.verify import enlivened, verified
from tests import nets

PIXELS = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class InPlace(nn.Module):
    """A residual block with a stride and a squeeze-and-excitation, added to in place, and the bias left out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.one = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.squeeze = nn.Conv2d(6, 2, 1)
        self.excite = nn.Conv2d(2, 6, 1)
        self.two = nn.Conv2d(6, 4, 1, bias=False)
        self.shortcut = nn.Conv2d(4, 4, 1, stride=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y = self.norm(self.one(x)).relu_()
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        out = self.two(y)
        out += self.shortcut(x)
        return self.head(out.relu().mean((2, 3)))


class Framed(nn.Module):
    """What two layers give is written into a larger tensor of zeros, which the head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.two = nn.Conv2d(4, 6, 1)
        self.head = nn.Conv2d(6, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        framed = torch.zeros(1, 6, 10, 10)
        framed[:, :, 1:9, 1:9] = self.two(self.one(x).relu())
        return self.head(framed)


class Parallel(nn.Module):
    """Two branches and no shortcut: either may go, both may not."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
        self.right = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


def removable(model: nn.Module) -> list[str]:
    return [group.name for group in trace(model, PIXELS) if group.removable]


def test_branches_with_a_shortcut_can_go():
    assert removable(nets.Residual()) == ["one.0", "two.0"]


def test_the_branch_and_its_gate_can_go():
    assert removable(InPlace()) == ["one", "squeeze"]


def test_the_only_path_stays():
    assert removable(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))) == []


def test_one_of_two_branches_stays():
    assert removable(Parallel()) == ["left.0"]


def test_what_is_written_into_a_tensor_is_all_that_it_holds() -> None:
    assert "one" in trace(Framed(), PIXELS).groups
    assert removable(Framed()) == []


def test_a_concatenated_branch_stays():
    assert removable(nets.Concat()) == []


@pytest.mark.parametrize("gone", [["one"], ["squeeze"], ["one", "squeeze"]])
def test_without_a_branch_the_network_equals_the_masked_one(gone):
    model = enlivened(InPlace().eval(), seed=0)
    graph = verified(model, trace(model, PIXELS))
    plan = WidthPlan.from_scores(graph, {}, {**dict.fromkeys(gone, 0), "stem": 3})
    small = slim(model, plan)
    assert slim_error(model, plan, small) < 1e-6
    assert small(PIXELS).shape == (1, 3)


def test_what_stands_in_for_the_layers():
    model = InPlace().eval()
    small = slim(model, WidthPlan.from_scores(trace(model, PIXELS), {}, {"one": 0, "squeeze": 0}))
    kinds = {name: type(module) for name, module in small.named_children()}
    assert kinds["one"] is kinds["norm"] is kinds["squeeze"] is Absent
    assert kinds["two"] is Constant
    assert kinds["excite"] is Absent
    # 3 to 4 with its bias, the constant of 4, 4 to 4 with its bias, 4 to 3 with its bias
    assert sum(one.numel() for one in small.parameters()) == (12 + 4) + 4 + (16 + 4) + (12 + 3)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(2, 4, 3, stride=2, padding=1), (3, 4)),  # (5 + 2 - 3) // 2 + 1, (7 + 2 - 3) // 2 + 1
        (nn.Conv2d(2, 4, (1, 5), dilation=(1, 1)), (5, 3)),  # 7 - 4
        (nn.Conv2d(2, 4, 3, padding="same", dilation=2), (5, 7)),
        (nn.ConvTranspose2d(2, 4, 2, stride=2, output_padding=1), (11, 15)),  # 4 * 2 + 2 + 1, 6 * 2 + 2 + 1
    ],
)
def test_a_constant_has_the_size_of_the_layer(layer, size):
    x = torch.zeros(2, 1, 5, 7)
    found = Constant(layer, layer.bias)(x)
    assert found.shape == (2, 4, *size)
    assert torch.equal(found[1, :, 2, 2], layer.bias)
    assert Absent(layer)(x).shape == (2, 1, *size)
    assert layer(torch.zeros(2, 2, 5, 7)).shape == found.shape


def test_a_group_on_the_only_path_keeps_a_channel():
    graph = trace(nets.Residual(), PIXELS)
    with pytest.raises(InputError, match=r"width 0 of group 'stem.0' is not in 1..8"):
        WidthPlan.from_scores(graph, {}, {"stem.0": 0})
    with pytest.raises(InputError, match="can't keep no channel"):
        WidthPlan(graph, {"stem.0": []})


def test_sizes_without_a_branch():
    graph = trace(nets.Residual(), PIXELS)
    plan = WidthPlan.from_scores(graph, {}, {"one.0": 0})
    # Each block's two convolutions have 8 * 4 * 9 weights, met at 64 positions.
    assert graph.macs() - plan.macs == 2 * 8 * 4 * 9 * 64


def test_the_engine_has_no_trace_of_the_branch():
    model = enlivened(InPlace().eval(), seed=0)
    graph = trace(model, PIXELS)
    plan = WidthPlan.from_scores(graph, {}, {"one": 0, "squeeze": 0})
    small = slim(model, plan)
    small.two.bias.data.copy_(torch.arange(1.0, 5.0))
    shipped = export_onnx(small, (PIXELS,))
    quick = onnx.load_model_from_string(Blueprint(model, graph).at(plan))
    for proto in (shipped, quick):
        kinds = [node.op_type for node in proto.graph.node]
        assert kinds.count("Conv") == 2
        assert kinds.count("Add") == 1
    # The constant is stored once a channel, for the operator to broadcast.
    assert max(np.prod(one.dims) for one in shipped.graph.initializer) == 4 * 4
    session = onnxruntime.InferenceSession(shipped.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: PIXELS.numpy()})
    np.testing.assert_allclose(found, small(PIXELS).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_bundle_without_a_branch_comes_back_and_can_be_cut_again(tmp_path):
    model = enlivened(InPlace().eval(), seed=0)
    plan = WidthPlan.from_scores(trace(model, PIXELS), {}, {"one": 0, "stem": 3})
    small = slim(model, plan)
    bundle.save(tmp_path / "first", small, plan)
    again = bundle.load(tmp_path / "first", InPlace())
    assert torch.equal(again.eval()(PIXELS), small(PIXELS))
    graph = trace(small, PIXELS)
    second = WidthPlan.uniform(graph, 0.5)
    smaller = slim(small, second)
    bundle.save(tmp_path / "second", smaller, second, plan.cuts)
    assert torch.equal(bundle.load(tmp_path / "second", InPlace()).eval()(PIXELS), smaller(PIXELS))


def test_compensation_gives_the_mean_of_what_the_branch_was():
    model = enlivened(InPlace().eval(), seed=0)
    plan = WidthPlan.from_scores(trace(model, PIXELS), {}, {"one": 0})
    small = slim(model, plan)
    images = [torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))]
    seen = []
    handle = model.two.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    model(images[0])
    handle.remove()
    compensate(small, model, plan, images)
    assert torch.allclose(small.two.bias, seen[0].mean((0, 2, 3)), atol=1e-5)


class Upwards(nn.Module):
    """A residual branch that ends in a transposed convolution, of more inputs than outputs."""

    def __init__(self, groups: int, bias: bool) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1)
        self.up = nn.ConvTranspose2d(12, 8, 3, padding=1, groups=groups, bias=bias)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.up(self.one(x).relu()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("groups", "stem", "left"),
    [
        (1, [0, 3, 5], [0, 3, 5]),
        # Each of the stem's channels is one output of either group: the second one's are 4 further.
        (2, [1, 3], [1, 3, 5, 7]),
    ],
)
def test_compensation_gives_the_mean_of_what_a_transposed_branch_was(groups, stem, left, bias):
    model = enlivened(Upwards(groups, bias).eval(), seed=0)
    plan = WidthPlan(trace(model, PIXELS), {"one": [], "stem": stem})
    small = slim(model, plan)
    images = [torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))]
    wanted = model.up(model.one(model.stem(images[0])).relu()).mean((0, 2, 3))[left]
    compensate(small, model, plan, images)
    assert torch.allclose(small.up.bias, wanted, atol=1e-5)


def test_a_branch_whose_code_breaks_without_it_stays_but_can_be_cut():
    class Picky(nets.Residual):
        def forward(self, x: Tensor) -> Tensor:
            y = self.one[:3](self.stem(x))
            if y.shape[1] < 2:
                raise ValueError("too narrow")
            return self.fc((self.stem(x) + self.one[3:](y)).mean((2, 3)))

    model = enlivened(Picky().eval(), seed=0)
    traced = trace(model, PIXELS)
    assert traced.groups["one.0"].removable
    assert [group.removable for group in verified(model, traced) if group.name == "one.0"] == [False]


def test_masking_a_whole_branch_zeroes_it():
    model = enlivened(nets.Residual().eval(), seed=0)
    plan = WidthPlan.from_scores(trace(model, PIXELS), {}, {"one.0": 0})
    assert not masked(model, plan).one[3].weight.any()
    assert cut(model, plan.cuts).one[0](torch.ones(1, 8, 8, 8)).shape == (1, 1, 8, 8)
