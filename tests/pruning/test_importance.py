import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeprune.errors import InputError
from edgeprune.graph.channels import ChannelGraph, ChannelGroup, Slot
from edgeprune.graph.trace import trace
from edgeprune.pruning.importance import CRITERIA, scores, training_means


def group(name: str, channels: int, slots: Sequence[tuple[str, int]], index: np.ndarray | None = None) -> ChannelGroup:
    """Return a group whose i-th channel is entry i of every slot, or the entries `index[i]`."""
    entries = np.arange(channels)[:, None] if index is None else index
    return ChannelGroup(name, channels, tuple(Slot(tensor, dim, entries) for tensor, dim in slots))


def graph_of(*groups: ChannelGroup) -> ChannelGraph:
    return ChannelGraph(groups={one.name: one for one in groups}, locked=(), layers=(), axes={}, shapes={}, foldable=())


def two_layers() -> tuple[nn.Sequential, ChannelGraph]:
    """Return Linear(1, 2), BatchNorm, Linear(2, 2) with weights for calculating by hand."""
    model = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2, eps=0), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0], [-1.0]]))
        model[0].bias.copy_(torch.tensor([9.0, 0.0]))
        model[1].weight.copy_(torch.tensor([-0.5, 2.0]))
        model[1].bias.copy_(torch.tensor([0.25, 0.0]))
        model[2].weight.copy_(torch.tensor([[4.0, 1.0], [0.0, -1.0]]))
        model[2].bias.zero_()
    slots = [
        ("0.weight", 0),
        ("0.bias", 0),
        ("1.weight", 0),
        ("1.bias", 0),
        ("1.running_mean", 0),
        ("1.running_var", 0),
    ]
    return model.eval(), graph_of(group("0", 2, [*slots, ("2.weight", 1)]))


def test_l1_and_l2_by_hand() -> None:
    model, graph = two_layers()
    # Channel 0: its row holds 3, its column 4 and 0. Channel 1: -1; 1 and -1. Biases and BatchNorm do not count.
    np.testing.assert_allclose(scores(model, graph, "l1")["0"], [7, 3])
    np.testing.assert_allclose(scores(model, graph, "l2")["0"], [5, math.sqrt(3)])


def test_bn_scale_by_hand() -> None:
    model, graph = two_layers()
    np.testing.assert_allclose(scores(model, graph, "bn_scale")["0"], [0.5, 2])


def test_groups_without_a_batchnorm_are_worth_what_is_usual() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -2.0, 1.0]))
    found = scores(model, trace(model, torch.zeros(1, 1, 2, 2)), "bn_scale")
    np.testing.assert_allclose(found["0"], [0.5, 2, 1])
    np.testing.assert_allclose(found["2"], [1, 1])
    bare = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1)).eval()
    with pytest.raises(InputError, match="no BatchNorm scales"):
        scores(bare, trace(bare, torch.zeros(1, 1, 2, 2)), "bn_scale")


def test_training_s_mean_is_over_what_makes_a_channel() -> None:
    graph = graph_of(
        group("0", 2, [("0.weight", 0), ("1.weight", 0), ("2.weight", 1)]), group("3", 1, [("3.weight", 0)])
    )
    trained = {"0.weight": np.array([0.5, 0.25]), "1.weight": np.array([0.75, 0.0]), "2.weight": np.array([9.0, 9.0])}
    found = training_means(graph, trained)
    assert {name: means.tolist() for name, means in found.items()} == {"0": [0.625, 0.125]}


def test_group_criteria_divide_by_the_groups_mean() -> None:
    model, graph = two_layers()
    np.testing.assert_allclose(scores(model, graph, "group_l1")["0"], [7 / 5, 3 / 5])


def test_taylor_by_hand() -> None:
    model, graph = two_layers()
    with torch.no_grad():  # hidden values for x = 1: 0: (3 + 9) * -0.5 + 0.25 = -5.75; 1: -1 * 2 = -2
        model[2].weight.zero_()
        model[2].weight[0, 0] = 0.5
        model[2].weight[1, 1] = 1.0
    x, y = torch.tensor([[1.0]]), torch.tensor([0])
    # Logits a = -2.875 and b = -2; the gradient of the loss by them is (p - 1, 1 - p) with p = softmax of a.
    p = 1 / (1 + math.exp(-2 + 2.875))
    # Reading entries: gradient * weight = dL/dlogit * hidden * weight = dL/dlogit * logit.
    expected = [abs((p - 1) * -2.875), abs((1 - p) * -2)]
    np.testing.assert_allclose(scores(model, graph, "taylor", [(x, y)])["0"], expected, rtol=1e-5)


def test_taylor_is_the_mean_of_sizes_over_batches() -> None:
    model, graph = two_layers()
    first, second = (torch.tensor([[1.0]]), torch.tensor([0])), (torch.tensor([[-2.0]]), torch.tensor([1]))
    apart = [scores(model, graph, "taylor", [batch])["0"] for batch in (first, second)]
    np.testing.assert_allclose(scores(model, graph, "taylor", [first, second])["0"], (apart[0] + apart[1]) / 2)


def test_taylor_predicts_the_loss_without_the_channel() -> None:
    # With a hidden value that is small the loss is nearly linear in it, so that first order is nearly all.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    with torch.no_grad():
        model[2].weight.mul_(0.01)
    x, y = torch.randn(16, 3), torch.randint(3, (16,))
    found = scores(
        model, graph_of(group("0", 4, [("0.weight", 0), ("0.bias", 0), ("2.weight", 1)])), "taylor", [(x, y)]
    )
    loss = nn.functional.cross_entropy(model(x), y).item()
    for channel in range(4):
        without = copy.deepcopy(model)
        with torch.no_grad():
            without[2].weight[:, channel] = 0
        change = abs(nn.functional.cross_entropy(without(x), y).item() - loss)
        assert found["0"][channel] == pytest.approx(change, rel=0.1, abs=1e-5)


def test_what_a_convolution_and_a_batchnorm_say_is_the_same_number() -> None:
    # gamma * gradient + beta * gradient of a BatchNorm = gradient * weight of what reads it (no bias in between).
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    x, y = torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 1, 0])
    slots = [("0.weight", 0), ("1.weight", 0), ("1.bias", 0), ("3.weight", 1)]
    found = scores(model, graph_of(group("0", 3, slots)), "taylor", [(x, y)])["0"]
    nn.functional.cross_entropy(model(x), y).backward()
    norm = model[1]
    expected = (norm.weight * norm.weight.grad + norm.bias * norm.bias.grad).abs().detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_a_depthwise_layer_in_between_is_not_counted_twice() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 1, bias=False), nn.Conv2d(3, 3, 3, groups=3, bias=False), nn.Conv2d(3, 2, 1), nn.Flatten(),
        nn.Linear(2, 2),
    )  # fmt: skip
    x, y = torch.randn(4, 1, 3, 3), torch.tensor([0, 1, 1, 0])
    through = graph_of(group("0", 3, [("0.weight", 0), ("1.weight", 0), ("2.weight", 1)]))
    reader = graph_of(group("0", 3, [("2.weight", 1)]))
    found = [scores(model, graph, "taylor", [(x, y)])["0"] for graph in (through, reader)]
    np.testing.assert_allclose(found[0], found[1])
    assert (scores(model, through, "l1")["0"] > scores(model, reader, "l1")["0"]).all()


def test_a_transposed_convolution_reads_along_its_first_dimension() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ConvTranspose2d(3, 3, 1, bias=False), nn.Flatten(), nn.Linear(3, 2))
    x, y = torch.randn(4, 1, 1, 1), torch.tensor([0, 1, 1, 0])
    found = scores(model, graph_of(group("0", 3, [("0.weight", 0), ("1.weight", 0)])), "taylor", [(x, y)])["0"]
    nn.functional.cross_entropy(model(x), y).backward()
    weight = model[1].weight
    np.testing.assert_allclose(found, (weight * weight.grad).sum((1, 2, 3)).abs().detach().numpy(), rtol=1e-4)


def test_channels_that_nothing_reads_are_judged_by_all_their_entries() -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
    found = scores(model, graph_of(group("0", 3, [("0.weight", 0), ("0.bias", 0)])), "taylor", [(x, y)])["0"]
    nn.functional.cross_entropy(model(x), y).backward()
    layer = model[0]
    expected = ((layer.weight * layer.weight.grad).sum(1) + layer.bias * layer.bias.grad).abs().detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_channel_of_several_entries_adds_them_up() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    flattened = group("0", 2, [("1.weight", 1)], np.array([[0, 1], [2, 3]]))
    np.testing.assert_allclose(scores(model, graph_of(flattened), "l1")["0"], [3, 7])


class Shared(nn.Module):
    """The same weight under two names, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor"])
def test_a_shared_weight_counts_once(criterion: str) -> None:
    model = Shared()
    batches = [(torch.randn(4, 2), torch.tensor([0, 1, 1, 0]))]
    once = graph_of(group("g", 2, [("first.weight", 1)]))
    twice = graph_of(group("g", 2, [("first.weight", 1), ("second.weight", 1)]))
    found = [scores(model, graph, criterion, batches)["g"] for graph in (once, twice)]
    np.testing.assert_allclose(found[0], found[1])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_model_stays_as_it_was(criterion: str) -> None:
    model, graph = two_layers()
    model.train()
    model[2].eval()
    model[0].weight.requires_grad_(False)
    model[2].weight.grad = torch.ones(2, 2)
    before = copy.deepcopy(model.state_dict())
    given = {"0.weight": np.array([0.5, 2.0])}
    found = scores(model, graph, criterion, [(torch.randn(4, 1), torch.tensor([0, 1, 1, 0]))], given)
    assert found["0"].shape == (2,)
    assert found["0"].dtype == np.float64
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert not model[0].weight.requires_grad
    assert torch.equal(model[2].weight.grad, torch.ones(2, 2))
    assert model[0].bias.grad is None


@given(st.floats(0.01, 100))
def test_group_criteria_do_not_depend_on_scale(factor: float) -> None:
    model, graph = two_layers()
    before = scores(model, graph, "group_l2")["0"]
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.mul_(factor)
    np.testing.assert_allclose(scores(model, graph, "group_l2")["0"], before, rtol=1e-5)


def test_a_group_of_zeros_has_scores_of_zero() -> None:
    model, graph = two_layers()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(scores(model, graph, "group_l1")["0"], [0, 0])


def test_unknown_names_and_missing_data_are_refused() -> None:
    model, graph = two_layers()
    with pytest.raises(InputError, match="did you mean 'taylor'"):
        scores(model, graph, "tailor")
    with pytest.raises(InputError, match="'taylor' needs data"):
        scores(model, graph, "taylor")
    with pytest.raises(InputError, match="no batch"):
        scores(model, graph, "taylor", [])


def test_scores_that_are_not_finite_are_refused() -> None:
    model, graph = two_layers()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    with pytest.raises(InputError, match="'0' are not finite"):
        scores(model, graph, "l1")
