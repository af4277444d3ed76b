"""LAPP on a network small enough to count by hand."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import BudgetError, InputError
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import cut
from edgeprune.training.bypass import Bypassed, add_bypasses, bypassed
from edgeprune.training.lapp import Lapp, Settings
from edgeprune.training.lapp_network import rebuild
from edgeprune.training.lapp_units import prunable
from edgeprune.training.learner import Learner
from edgeprune.training.loop import Recipe, evaluate, fit
from tests.nets import with_statistics
from tests.training.test_loop import Recorded, same_state, two_colours

INPUT = torch.zeros(1, 1, 4, 4)
RECIPE = Recipe(epochs=5, learning_rate=0.05, batch_size=8, warmup_epochs=0.5)

# On 4 x 4 pixels: the stem 1 -> 8, two convolutions 8 -> 8, the classifier 8 -> 2.
STEM, BODY, FC = 16 * 9 * 8, 16 * 9 * 8 * 8, 16
DENSE = STEM + 2 * BODY + FC
BYPASS = 16 * 8 * 8


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def network() -> Block:
    torch.manual_seed(0)
    return Block()


def lapp(target: float = 0.5, **changes: Any) -> Lapp:
    return Lapp(Settings(target, **{"pruning": 0.4, **changes}), INPUT)


def macs(model: nn.Module) -> int:
    return trace(model, INPUT).macs()


def test_body_convolutions_get_bypasses_and_these_are_counted() -> None:
    model = network()
    assert macs(model) == DENSE
    names = prunable(model, trace(model, INPUT), "pointwise")
    assert names == ("conv1", "conv2")
    add_bypasses(model, names, "pointwise")
    assert macs(model) == DENSE + 2 * BYPASS
    method = lapp()
    other = method.start(network(), RECIPE, 4)
    assert method.left(other) == pytest.approx((DENSE + 2 * BYPASS) / DENSE)


@pytest.mark.parametrize(("kind", "added"), [("none", 0), ("depthwise", 16 * 9 * 8), ("pointwise", BYPASS)])
def test_kinds_of_bypasses(kind: str, added: int) -> None:
    model = network()
    add_bypasses(model, ("conv1",), kind)
    assert macs(model) == DENSE + added


def test_without_filters_a_layer_is_its_bypass_and_with_some_they_add_to_their_own_outputs() -> None:
    layer = Bypassed(nn.Conv2d(2, 3, 3, padding=1), "pointwise").eval()
    x = torch.randn(2, 2, 4, 4)
    full, beside = layer.conv(x), layer.bypass(x)
    torch.testing.assert_close(layer(x), full + beside)
    some, none = copy.deepcopy(layer), copy.deepcopy(layer)
    some.narrow(torch.tensor([0, 2]))
    none.narrow(torch.tensor([], dtype=torch.long))
    expected = beside.clone()
    expected[:, [0, 2]] += full[:, [0, 2]]
    torch.testing.assert_close(some(x), expected)
    torch.testing.assert_close(none(x), beside)


def test_a_mask_is_worked_out_once_a_step() -> None:
    layer = Bypassed(nn.Conv2d(1, 2, 3), "none")
    layer.conv.weight.data = torch.tensor([0.5, 1.5]).view(2, 1, 1, 1).expand(2, 1, 3, 3).clone()
    layer.open(masks_filters=True)
    first = layer.mask()
    layer(torch.randn(1, 1, 4, 4))
    assert layer.mask() is first
    with torch.no_grad():
        layer.threshold.fill_(1.0)
        assert layer.mask().tolist() == [0, 1], "what only looks at the network sees it as it is"
    layer.renew()
    assert layer.mask().tolist() == [0, 1]
    assert layer.eval().mask().requires_grad


@pytest.mark.parametrize("removes", ["filters", "channels"])
def test_masking_computes_what_removing_does(removes: str) -> None:
    method = lapp(removes=removes)
    model = method.start(with_statistics(network()), RECIPE, 4).eval()
    with torch.no_grad():
        for layer in bypassed(model).values():
            if layer.threshold is not None:
                layer.threshold.fill_(1.0)
    masked_widths = method._widths(model)
    assert all(0 < width < 8 for width in masked_widths.values())
    # A target that these widths meet to the filter, so that landing moves no threshold.
    method._asked = replace(method._asked, target=method.left(model))
    change = method._land(model)
    x = torch.randn(4, 1, 4, 4)
    torch.testing.assert_close(change.model.eval()(x), model(x), atol=1e-5, rtol=1e-5)
    assert method._widths(change.model) == masked_widths
    assert macs(change.model) == pytest.approx(method.left(change.model) * DENSE)


@pytest.mark.parametrize(
    ("removes", "each"),
    # A filter of one layer; a channel of conv1 with its bypass's output and what conv2 and its bypass read.
    [("filters", 16 * 9 * 8), ("channels", 16 * 9 * 8 * 2 + 16 * 8 * 2)],
)
@pytest.mark.parametrize("target", [0.8, 0.6])
def test_training_lands_on_the_target_bypasses_included(removes: str, each: int, target: float) -> None:
    data = two_colours()
    done = fit(network().eval(), data, RECIPE, lapp(target, removes=removes))
    found = macs(done.model.eval())
    assert target * DENSE - each < found <= target * DENSE
    assert done.history[-1]["left"] == pytest.approx(found / DENSE)
    assert evaluate(done.model, data) == 1.0
    assert not any("threshold" in name for name in done.model.state_dict())
    assert [entry["settled"] for entry in done.history] == [False, False, True, True, True]


def test_uniform_rates_keep_the_same_share_of_every_layer() -> None:
    done = fit(network(), two_colours(), RECIPE, lapp(0.6, uniform=True))
    widths = [layer.conv.out_channels for layer in bypassed(done.model).values()]
    # 0.6 of DENSE without stem, classifier and bypasses leaves 7 of 16 filters.
    assert sum(widths) == int((0.6 * DENSE - STEM - FC - 2 * BYPASS) // (16 * 9 * 8)) == 7
    assert sorted(widths) == [3, 4]


def test_the_cost_falls_before_the_landing() -> None:
    data = two_colours()
    seen = []

    class Watched(Lapp):
        def stepped(self, model: nn.Module, step: int) -> Any:
            seen.append(self.left(model))
            return super().stepped(model, step)

    fit(network(), data, replace(RECIPE, epochs=12), Watched(Settings(0.5, pruning=0.75), INPUT))
    landing = 4 + 36  # an epoch without pruning, then three quarters of 48 steps
    assert set(seen[:4]) == {(DENSE + 2 * BYPASS) / DENSE}
    assert 0.3 < seen[landing - 1] < 0.7, "most of the way is the thresholds' own"
    assert len({round(one, 3) for one in seen[4:landing]}) > 4, "and they go there gradually"
    assert len(set(seen[landing:])) == 1


def test_momentum_of_what_is_left_is_carried_over() -> None:
    method = lapp(removes="channels")
    learner = Learner(network(), None, RECIPE, method, 4)
    images, labels = next(iter(two_colours().train_batches(8, 0, 0)))
    for at in range(3):
        learner.learn(images, labels, 0.05, at)
    before = {
        name: learner._optimizer.state[one]["momentum_buffer"]
        for name, one in learner.model.named_parameters()
        if "threshold" not in name
    }
    change = method._land(learner.model)
    learner._replace(change)
    (kept,) = [torch.tensor(one["kept"]) for one in method._landed.values()]
    after = {name: learner._optimizer.state[one]["momentum_buffer"] for name, one in learner.model.named_parameters()}
    assert set(after) == set(before)
    assert torch.equal(after["conv1.conv.weight"], before["conv1.conv.weight"][kept])
    assert torch.equal(after["conv2.conv.weight"], before["conv2.conv.weight"][:, kept])
    assert torch.equal(after["bn1.bias"], before["bn1.bias"][kept])
    assert torch.equal(after["stem.weight"], before["stem.weight"])
    learner.learn(images, labels, 0.05, 3)


@pytest.mark.parametrize("removes", ["filters", "channels"])
@pytest.mark.parametrize("after", [2, 4])  # of 5 epochs; it lands with the third
def test_a_kill_changes_nothing(removes: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, checkpoint = two_colours(), tmp_path / "run.ckpt"
    expected = fit(network(), data, RECIPE, lapp(removes=removes))
    save = Learner.save

    def save_then_die(self: Learner, path: Path, identity: str, epochs: int, history: Any) -> None:
        save(self, path, identity, epochs, history)
        if epochs == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, RECIPE, lapp(removes=removes), checkpoint=checkpoint)
    monkeypatch.setattr(Learner, "save", save)
    progress = Recorded()
    resumed = fit(network(), data, RECIPE, lapp(removes=removes), checkpoint=checkpoint, progress=progress)
    assert progress.lines == [f"going on after epoch {after}, from {checkpoint}"]
    assert same_state(resumed.model, expected.model)
    assert resumed.history == expected.history


@pytest.mark.parametrize("removes", ["filters", "channels"])
def test_the_trained_network_is_built_again_from_the_dense_one(removes: str) -> None:
    method = lapp(removes=removes)
    done = fit(network().eval(), two_colours(), RECIPE, method)
    again = cut(rebuild(network(), method.structure), method.cuts).eval()
    again.load_state_dict(done.model.state_dict())
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(again(x), done.model(x))
    for name, values in done.importances.items():
        assert values.shape == done.model.state_dict()[name].shape[:1]
        assert bool((values >= 0).all())


def test_another_cost_decides_what_goes() -> None:
    """A cost that only sees steps of four channels: the widths end on a step."""

    def cost(widths: Mapping[str, int]) -> tuple[float, Mapping[str, float]]:
        return sum(-(-width // 4) for width in widths.values()) / 2, dict.fromkeys(widths, 1 / 8)

    method = Lapp(Settings(0.5, removes="channels", pruning=0.4, unit="latency"), INPUT, cost)
    done = fit(network(), two_colours(), RECIPE, method)
    assert bypassed(done.model)["conv1"].conv.out_channels == 4


class Inverted(nn.Module):
    """A stem, then 1x1 to twelve channels, depthwise, 1x1 back to four, a norm behind each, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.expand, self.expanded = nn.Conv2d(4, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.depthwise, self.passed = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12)
        self.project, self.projected = nn.Conv2d(12, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.passed(self.depthwise(self.expanded(self.expand(x)).relu())).relu()
        result: Tensor = self.head((x + self.projected(self.project(inner))).mean((2, 3)))
        return result


def test_the_network_can_be_copied_while_it_is_trained() -> None:
    """As it is to be judged on a device that it is not on."""
    copies = []
    fit(network(), two_colours(), RECIPE, lapp(), judge=lambda model: {"copied": copies.append(copy.deepcopy(model))})
    assert len(copies) == RECIPE.epochs


class Odd(nn.Module):
    """Layers that a bypass or a threshold does not fit, and one that they fit."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 1, 1, 1))
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.valid = nn.Conv2d(4, 4, 3)
        self.own = Doubling(4, 4, 3, padding=1)
        self.normed = nn.utils.weight_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.halving = nn.Conv2d(4, 4, 2, stride=2)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.first(x), self.kernel, groups=4)
        return self.fc(self.halving(self.normed(self.own(F.pad(self.valid(x), (1, 1, 1, 1))))).mean((2, 3)))


class Doubling(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_layers_that_a_bypass_does_not_fit_are_left_alone() -> None:
    model = Odd().eval()
    graph = trace(model, torch.zeros(1, 1, 8, 8))
    assert prunable(model, graph, "pointwise") == ("halving",)
    assert prunable(model, graph, "none") == ("valid", "halving")


def test_without_bypasses_pointwise_layers_lose_channels_through_depthwise_ones() -> None:
    # A channel of the twelve costs 4 (expand) + 9 (depthwise) + 4 (project) at 16 positions; the rest is 4 * 16 for
    # the stem and 8 for the head: 72 + 12 * 272 = 3336. Half of it, 1668, leaves room for 5.87 channels.
    method = lapp(0.5, removes="channels", bypass="none")
    done = fit(Inverted(), two_colours(), RECIPE, method)
    assert done.model.get_submodule("depthwise").weight.shape[0] == 5
    assert bypassed(done.model)["expand"].conv.out_channels == 5
    assert bypassed(done.model)["project"].conv.in_channels == 5


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(
        BudgetError, match=r"thresholds in \d layers of .*its bypasses included, .* 5\.0 % were asked"
    ) as few:
        lapp(0.05).start(network(), RECIPE, 4)
    assert "--bypass depthwise or none, or --removes channels" in str(few.value.remedy)
    with pytest.raises(InputError, match=r"target 1.5 is not in"):
        lapp(1.5)
    with pytest.raises(InputError, match="can't remove 'layers'"):
        lapp(removes="layers")
    with pytest.raises(InputError, match="did you mean 'pointwise'"):
        lapp(bypass="pointwse").start(network(), RECIPE, 4)
    with pytest.raises(InputError, match="no convolution that LAPP could prune"):
        lapp().start(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), RECIPE, 4)
    with pytest.raises(InputError, match="filters alone were to be removed"):
        Lapp(Settings(0.5), INPUT, lambda widths: (1.0, {}))
