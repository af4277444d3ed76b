import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgeprune.errors import InputError
from edgeprune.training import rni, slimming
from edgeprune.training.groups import parameter_groups
from tests.nets import Flatten, Residual, with_statistics


def one_norm(g: float = 0.0, channels: int = 1) -> nn.Module:
    """Return a converted network of one BatchNorm with all its g at one value."""
    model = rni.convert(nn.Sequential(nn.BatchNorm2d(channels)))
    model[0].parametrizations.weight.original.data.fill_(g)
    return model


def volumes() -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gradient(g: float, shift: float = 0.0) -> float:
    model = one_norm(g)
    rni.penalty(model, shift).backward()
    return float(model[0].parametrizations.weight.original.grad)


@given(st.floats(-30, 30), st.floats(-4, 4))
def test_penalty_and_gradient_by_the_formula(g: float, shift: float) -> None:
    s = sigmoid(g + shift)
    assert float(rni.penalty(one_norm(g), shift).detach()) == pytest.approx(s * (1 - math.log(s)), rel=1e-4, abs=1e-6)
    assert gradient(g, shift) == pytest.approx(-math.log(s) * s * (1 - s), rel=1e-3, abs=1e-6)


def test_the_gradient_vanishes_at_both_ends_and_is_largest_in_between() -> None:
    assert gradient(-40) == pytest.approx(0, abs=1e-6)
    assert gradient(40) == pytest.approx(0, abs=1e-6)
    # d/ds of -s (1 - s) ln s is 0 where (2 s - 1) ln s = 1 - s: at s = 0.2356.
    peak = 0.2356
    assert (2 * peak - 1) * math.log(peak) == pytest.approx(1 - peak, abs=1e-3)
    for shift in (0.0, 3.0):
        at = math.log(peak / (1 - peak)) - shift
        assert gradient(at, shift) == pytest.approx(0.2603, abs=1e-4)
        assert max(gradient(at - 0.2, shift), gradient(at + 0.2, shift)) < gradient(at, shift)


def test_the_penalty_is_a_sum_over_channels_and_layers() -> None:
    model = rni.convert(nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(3)))
    for norm in model:
        norm.parametrizations.weight.original.data.zero_()
    assert float(rni.penalty(model).detach()) == pytest.approx(5 * 0.5 * (1 + math.log(2)), rel=1e-6)


@pytest.mark.parametrize(
    ("model", "images"), [(Residual(), (2, 3, 6, 6)), (Flatten(), (2, 3, 8, 8)), (volumes(), (2, 2, 3, 3, 3))]
)
def test_from_scratch_the_scales_are_bounded_and_there_is_no_shift(model: nn.Module, images: tuple[int, ...]) -> None:
    before = copy.deepcopy(model.state_dict())
    converted = rni.convert(model, generator=torch.Generator().manual_seed(0))
    norms = [one for one in converted.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    for norm, importance in zip(norms, rni.importances(converted).values(), strict=True):
        assert torch.equal(norm.weight, importance)
        assert bool(((importance > 0) & (importance < 1)).all())
        assert norm.bias is None
    converted.train()(torch.randn(images)).sum().backward()
    assert all(norm.parametrizations.weight.original.grad is not None for norm in norms)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_a_bounded_norm_by_hand() -> None:
    # Mean 1, variance 4, g = ln 3: sigmoid is 3/4, and 5 becomes 3/4 * (5 - 1) / 2 = 1.5.
    model = one_norm(math.log(3)).eval()
    model[0].running_mean.fill_(1.0)
    model[0].running_var.fill_(4.0)
    assert float(model(torch.full((1, 1, 1, 1), 5.0)).detach()) == pytest.approx(1.5, abs=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_folding_is_exact_and_brings_the_names_back(trained: bool) -> None:
    model = with_statistics(Residual())
    converted = rni.convert(model, trained=trained).eval()
    folded = rni.fold(converted)
    x = torch.randn(4, 3, 6, 6)
    torch.testing.assert_close(folded(x), converted(x), atol=1e-6, rtol=1e-6)
    assert list(folded.state_dict()) == list(model.state_dict())
    assert [type(one) for one in folded.modules()] == [type(one) for one in model.modules()]
    assert folded.stem[1].weight.is_leaf
    assert not list(rni._bounded(folded))
    assert list(rni.importances(converted)) == list(rni.importances(copy.deepcopy(converted)))


def test_a_folded_network_goes_back_to_what_it_was() -> None:
    converted = rni.convert(Residual(), generator=torch.Generator().manual_seed(0))
    again = rni.convert(rni.fold(converted), trained=True)
    for (name, before), after in zip(rni._bounded(converted), rni.importances(again).values(), strict=True):
        torch.testing.assert_close(after, before.weight.detach(), atol=1e-6, rtol=1e-6)
        assert again.get_submodule(name).bias is None


def test_a_trained_network_computes_what_it_did() -> None:
    model = with_statistics(Residual()).eval()
    with torch.no_grad():
        model.one[1].weight[0] = -0.7
        model.two[4].weight[1] = 3.0
    converted = rni.convert(model, trained=True).eval()
    x = torch.randn(4, 3, 6, 6)
    torch.testing.assert_close(converted(x), model(x), atol=1e-5, rtol=1e-5)
    found = rni.importances(converted)
    # The largest scale of the network, 3, has importance 0.98, and 0.7 has 0.98 * 0.7 / 3 whatever its sign.
    assert float(found["two.4"][1]) == pytest.approx(0.98, abs=1e-5)
    assert float(found["one.1"][0]) == pytest.approx(0.98 * 0.7 / 3, abs=1e-5)


def test_a_zero_scale_becomes_a_millionth() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.0, 2.0]))
    folded = rni.fold(rni.convert(model, trained=True))
    torch.testing.assert_close(folded[0].weight, torch.tensor([2e-6 / 0.98, 2.0]), atol=1e-8, rtol=1e-5)


def test_a_module_in_two_places_is_converted_once() -> None:
    norm = nn.BatchNorm2d(3)
    converted = rni.convert(nn.Sequential(norm, nn.ReLU(), norm))
    assert converted[0] is converted[2]
    assert list(rni.importances(converted)) == ["0"]
    folded = rni.fold(converted)
    assert folded[0] is folded[2]


def test_g_learns_ten_times_as_fast_and_never_decays() -> None:
    model = rni.convert(Residual())
    weights, vectors, special = rni.parameter_groups(model, 0.1, 1e-4)
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 1e-4)
    assert (special["lr"], special["weight_decay"]) == (1.0, 0.0)
    assert sum(one.numel() for one in special["params"]) == 8 + 4 + 8 + 4 + 8
    assert [one.ndim for one in vectors["params"]] == [1]  # the classifier's bias
    groups = (weights, vectors, special)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_vectors_decay_where_asked() -> None:
    assert [group["weight_decay"] for group in parameter_groups(Residual(), 0.1, 0.5, decay_vectors=True)] == [0.5, 0.5]


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(InputError, match="Linear has no BatchNorm with scales"):
        rni.convert(nn.Linear(2, 2))
    with pytest.raises(InputError, match="bounded already"):
        rni.convert(rni.convert(Residual()))
    for part in (rni.penalty, rni.importances):
        with pytest.raises(InputError, match="no BatchNorm of the network is bounded"):
            part(Residual())


def test_importances_go_to_two_modes() -> None:
    """Of 16 channels the task needs 4: the penalty alone must tell the two kinds apart."""
    torch.manual_seed(0)
    needed = 4
    model = rni.convert(nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 1, bias=False)))
    model[0].parametrizations.weight.original.data.zero_()
    optimizer = torch.optim.SGD(rni.parameter_groups(model, 0.05, 1e-3), lr=0.05, momentum=0.9)
    for _ in range(400):
        x = torch.randn(64, 16)
        loss = (model(x).squeeze(1) - 2 * x[:, :needed].sum(1)).square().mean() + 0.05 * rni.penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (found,) = rni.importances(model).values()
    assert bool((found[:needed] > 0.7).all())
    assert bool((found[needed:] < 0.1).all())


def test_slimming_by_hand() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([-2.0, 0.5]))
        model[1].weight.fill_(3.0)
    loss = slimming.penalty(model)
    loss.backward()
    assert float(loss.detach()) == 5.5
    assert model[0].weight.grad.tolist() == [-1.0, 1.0]
    assert [one.tolist() for one in slimming.importances(model).values()] == [[2.0, 0.5], [3.0]]
    with pytest.raises(InputError, match="no BatchNorm with scales"):
        slimming.penalty(nn.Linear(2, 2))
