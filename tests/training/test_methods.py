"""Every way to train: what goes in, what comes out, and that a kill at any moment changes nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgeprune.training.learner import Learner
from edgeprune.training.loop import Recipe, evaluate, fit
from edgeprune.training.methods import Method, Plain, Rni, Slimming
from tests.training.test_loop import Recorded, network, same_state, two_colours

RECIPE = Recipe(epochs=3, learning_rate=0.1, batch_size=8, warmup_epochs=0.5)


def method(name: str) -> Method:
    found: dict[str, Method] = {"none": Plain(), "slimming": Slimming(0.01), "rni": Rni(0.01, shift=1.0)}
    return found[name]


EVERY = pytest.mark.parametrize("name", ["none", "slimming", "rni"])


@EVERY
def test_an_ordinary_network_comes_out_and_it_has_learned(name: str) -> None:
    model, data = network().eval(), two_colours()
    done = fit(
        model, data, replace(RECIPE, epochs=6), method(name), judge=lambda one: {"accuracy": evaluate(one, data)}
    )
    assert evaluate(done.model, data) == done.history[-1]["accuracy"] == 1.0
    assert list(done.model.state_dict()) == list(model.state_dict())
    assert [type(one) for one in done.model.modules()] == [type(one) for one in model.modules()]
    assert not any(module.training for module in done.model.modules())
    assert [entry["epoch"] for entry in done.history] == [1, 2, 3, 4, 5, 6]
    assert all(0 < entry["left"] <= 1 for entry in done.history)


@EVERY
@pytest.mark.parametrize("moment", ["in an epoch", "between epochs"])
def test_a_kill_changes_nothing(name: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, checkpoint = two_colours(), tmp_path / "run.ckpt"
    expected = fit(network(), data, RECIPE, method(name))
    part = "learn" if moment == "in an epoch" else "save"
    whole = getattr(Learner, part)
    calls = []

    def dying(self: Learner, *arguments: Any) -> Any:
        result = whole(self, *arguments)
        calls.append(0)
        if len(calls) == (6 if part == "learn" else 1):  # 4 steps an epoch: in the middle of the second
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Learner, part, dying)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, RECIPE, method(name), checkpoint=checkpoint)
    progress = Recorded()
    resumed = fit(network(), data, RECIPE, method(name), checkpoint=checkpoint, progress=progress)
    assert progress.lines == [f"going on after epoch 1, from {checkpoint}"]
    assert same_state(resumed.model, expected.model)
    assert resumed.history == expected.history


def test_another_method_starts_anew(tmp_path: Path) -> None:
    checkpoint, progress = tmp_path / "run.ckpt", Recorded()
    fit(network(), two_colours(), RECIPE, Rni(0.01), checkpoint=checkpoint)
    fit(network(), two_colours(), RECIPE, Rni(0.02), checkpoint=checkpoint, progress=progress)
    assert "starts anew" in progress.lines[0]


def test_the_importances_are_those_of_the_network_that_comes_out() -> None:
    for chosen in (Rni(0.01), Slimming(0.01)):
        done = fit(network(), two_colours(), RECIPE, chosen)
        assert list(done.importances) == ["1.weight"]
        norm = done.model[1]
        assert isinstance(norm, nn.BatchNorm2d)
        torch.testing.assert_close(done.importances["1.weight"], norm.weight.detach().abs())
    assert fit(network(), two_colours(), RECIPE).importances == {}


def test_slimming_presses_scales_down() -> None:
    weak, strong = (fit(network(), two_colours(), RECIPE, Slimming(one)) for one in (0.0, 0.1))
    assert strong.importances["1.weight"].sum() < 0.8 * weak.importances["1.weight"].sum()


def test_progress_shows_what_is_known() -> None:
    progress, data = Recorded(), two_colours()
    fit(network(), data, RECIPE, Rni(0.01), judge=lambda one: {"accuracy": evaluate(one, data)}, progress=progress)
    assert progress.note.startswith("epoch 3 of 3, loss ")
    assert "rate " in progress.note
    assert "accuracy " in progress.note


def test_milestones_divide_the_rate_by_ten() -> None:
    recipe = Recipe(epochs=4, learning_rate=1.0, warmup_epochs=0, milestones=(0.5, 0.75))
    assert [recipe.rate(step, 2) for step in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
