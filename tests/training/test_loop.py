import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import EdgePruneError, InputError
from edgeprune.progress import Step
from edgeprune.training.images import Augmentation, ImageArrays, Normalisation
from edgeprune.training.learner import Learner, check_trainable
from edgeprune.training.loop import Recipe, evaluate, recover, train

RECIPE = Recipe(epochs=2, learning_rate=0.1, batch_size=8, warmup_epochs=0.5)


def two_colours(count: int = 32) -> ImageArrays:
    """Return dark images of class 0 and bright ones of class 1: any network that looks at the mean tells them apart."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 100, (count, 4, 4, 1), generator=random) + 155 * labels.view(-1, 1, 1, 1)
    images = pixels.to(torch.uint8)
    return ImageArrays(
        name="two colours",
        x_train=images,
        y_train=labels,
        x_val=images,
        y_val=labels,
        classes=2,
        normalisation=Normalisation((0.5,), (0.5,)),
        augmentation=Augmentation(shift=0, mirror=True),
        digest="2c",
    )


def network(outputs: int = 2, dropout: float = 0.5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64, outputs),
    )


def same_state(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


class Recorded:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.total: int | None = None
        self.done = 0
        self.note = ""

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Step]:
        self.total = total
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        self.note = note or self.note

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_the_rate_rises_and_then_falls_along_a_cosine() -> None:
    recipe = Recipe(epochs=2, learning_rate=1.0, warmup_epochs=0.5)
    rates = [recipe.rate(step, steps_per_epoch=4) for step in range(8)]
    # Warm-up over 2 of 8 steps: 1/3, 2/3; then half a cosine over the 6 that are left, from 1 to (almost) 0.
    expected = [1 / 3, 2 / 3] + [0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert rates == pytest.approx(expected)
    assert Recipe(epochs=1, learning_rate=0.3, warmup_epochs=0).rate(0, 10) == pytest.approx(0.3)


def test_evaluate_counts_right_answers() -> None:
    data = two_colours()
    always_one = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        always_one[1].weight.zero_()
        always_one[1].bias.copy_(torch.tensor([0.0, 1.0]))
    assert evaluate(always_one, data, batch_size=7) == 0.5


def test_evaluate_uses_eval_mode_and_puts_the_modes_back() -> None:
    model = network()
    model.train()
    model[1].eval()
    before = copy.deepcopy(model)
    evaluate(model, two_colours())
    assert same_state(model, before)
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]


def test_training_learns_and_leaves_the_model_alone() -> None:
    model = network().eval()
    before = copy.deepcopy(model)
    trained = train(model, two_colours(), replace(RECIPE, epochs=6))
    assert evaluate(trained, two_colours()) == 1.0
    assert same_state(model, before)
    assert not any(module.training for module in trained.modules())
    assert all(parameter.grad is None for parameter in trained.parameters())
    assert trained[0].weight.is_contiguous()


def test_modes_of_the_model_come_back_one_by_one() -> None:
    model = network().train()
    model[4].eval()
    trained = train(model, two_colours(), RECIPE)
    assert [module.training for module in trained.modules()] == [module.training for module in model.modules()]


def test_recovery_follows_the_teacher_where_the_labels_have_no_weight() -> None:
    data = two_colours()
    teacher = train(network(), data, replace(RECIPE, epochs=6)).eval()
    wrong = replace(data, y_train=1 - data.y_train)
    before = copy.deepcopy(teacher)
    student = recover(network(), teacher, wrong, replace(RECIPE, epochs=6, distillation=1.0)).eval()
    assert evaluate(student, data) == 1.0
    assert same_state(teacher, before)


def test_no_epochs_change_nothing() -> None:
    model = network()
    trained = train(model, two_colours(), replace(RECIPE, epochs=0))
    assert trained is not model
    assert same_state(trained, model)


def test_the_same_seed_gives_the_same_weights_and_torchs_random_state_stays() -> None:
    torch.manual_seed(1)
    first = train(network(), two_colours(), RECIPE)
    torch.manual_seed(2)
    expected = torch.rand(2)
    torch.manual_seed(2)
    model = network()
    torch.manual_seed(2)
    again = train(model, two_colours(), RECIPE)
    assert torch.equal(torch.rand(2), expected)
    assert same_state(first, again)
    assert not same_state(first, train(network(), two_colours(), replace(RECIPE, seed=1)))


def test_frozen_parameters_stay() -> None:
    model = network()
    model[0].requires_grad_(False)
    trained = train(model, two_colours(), RECIPE)
    assert torch.equal(trained[0].weight, model[0].weight)
    assert not trained[0].weight.requires_grad
    assert not torch.equal(trained[5].weight, model[5].weight)


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, epochs=3)
    expected = train(network(), two_colours(), recipe)
    checkpoint = tmp_path / "recovery.pt"
    save = Learner.save

    def save_then_die(self: Learner, *arguments: Any) -> None:
        save(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "save", save_then_die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(network(), two_colours(), recipe, checkpoint=checkpoint)
    monkeypatch.setattr(Learner, "save", save)
    progress = Recorded()
    resumed = train(network(), two_colours(), recipe, checkpoint=checkpoint, progress=progress)
    assert progress.lines == [f"going on after epoch 2, from {checkpoint}"]
    assert (progress.done, progress.total) == (12, 12)  # 32 images in batches of 8, three times
    assert same_state(resumed, expected)


def test_a_finished_run_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "recovery.pt"
    expected = train(network(), two_colours(), RECIPE, checkpoint=checkpoint)
    monkeypatch.setattr(Learner, "learn", None)
    assert same_state(train(network(), two_colours(), RECIPE, checkpoint=checkpoint), expected)


@pytest.mark.parametrize("change", ["recipe", "network", "data"])
def test_a_checkpoint_of_another_run_is_not_gone_on_from(tmp_path: Path, change: str) -> None:
    checkpoint = tmp_path / "recovery.pt"
    train(network(outputs=3), two_colours(), RECIPE, checkpoint=checkpoint)
    model = network(outputs=2 if change == "network" else 3)
    data = replace(two_colours(), digest="3d") if change == "data" else two_colours()
    recipe = replace(RECIPE, learning_rate=0.05) if change == "recipe" else RECIPE
    progress = Recorded()
    trained = train(model, data, recipe, checkpoint=checkpoint, progress=progress)
    assert progress.lines == [f"{checkpoint} is of another network, data or recipe: training starts anew"]
    assert same_state(trained, train(model, data, recipe))


def test_an_unreadable_checkpoint_is_said_and_replaced(tmp_path: Path) -> None:
    checkpoint = tmp_path / "recovery.pt"
    checkpoint.write_bytes(b"torn")
    progress = Recorded()
    train(network(), two_colours(), RECIPE, checkpoint=checkpoint, progress=progress)
    assert "cannot be read" in progress.lines[0]
    assert torch.load(checkpoint, weights_only=True)["epochs"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["recovery.pt"]


def test_progress_shows_epoch_and_loss() -> None:
    progress = Recorded()
    train(network(), two_colours(), RECIPE, progress=progress)
    assert (progress.done, progress.total) == (8, 8)
    assert progress.note.startswith("epoch 2 of 2, loss 0.")


def test_a_loss_that_is_no_number_stops_with_a_clear_error() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[0] = math.nan
    with pytest.raises(EdgePruneError, match="the loss is nan in epoch 1, step 1") as caught:
        train(model, two_colours(), RECIPE)
    assert "learning rate" in caught.value.remedy


def test_a_last_step_that_blows_the_weights_up_is_not_a_trained_network(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Learner.learn

    def too_far(learner: Learner, *batch: Any) -> float:
        loss = usual(learner, *batch)
        next(learner.model.parameters()).data.fill_(math.inf)
        return loss

    monkeypatch.setattr(Learner, "learn", too_far)
    with pytest.raises(InputError, match="diverged: weights are not finite after epoch 1, with a learning rate"):
        train(network(), two_colours(32), replace(RECIPE, epochs=1, batch_size=32))


def test_labels_beyond_the_networks_outputs_are_refused() -> None:
    with pytest.raises(InputError, match="a label 1 and the network 1 outputs"):
        train(network(outputs=1), two_colours(), RECIPE)


class Supervised(nn.Module):
    """Gives what a second head says too, while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(16, 2), nn.Linear(16, 2)])

    def forward(self, x: Tensor) -> Any:
        one, other = (head(x.flatten(1)) for head in self.heads)
        return (one, other) if self.training else one


def test_what_gives_something_else_while_it_trains_is_told_before_it_does() -> None:
    model = Supervised().eval()
    with pytest.raises(InputError, match="net returns tuple while it trains"):
        check_trainable("net", model, (torch.zeros(1, 1, 4, 4),))
    assert not model.training
    small = nn.Sequential(nn.Conv2d(1, 2, 1), nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(2, 2)).eval()
    with pytest.raises(InputError, match="net fails while it trains: ValueError: Expected more than 1 spatial element"):
        check_trainable("net", small, (torch.zeros(1, 1, 1, 1),))
    check_trainable("net", network().eval(), (torch.zeros(1, 1, 4, 4),))


def test_a_network_that_gives_no_logits_is_refused() -> None:
    with pytest.raises(InputError, match="not logits"):
        train(nn.Conv2d(1, 2, 3), two_colours(), RECIPE)
