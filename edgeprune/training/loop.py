"""One training loop: from scratch, pruning-aware, and for networks that were cut and learn again from the dense one."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn

from edgeprune.errors import InputError
from edgeprune.graph.inputs import eval_mode
from edgeprune.progress import SILENT, Progress
from edgeprune.training.data import Data
from edgeprune.training.learner import Learner
from edgeprune.training.methods import Method, Plain
from edgeprune.training.recipe import Recipe as Recipe
from edgeprune.training.seeds import stream_seed
from edgeprune.training.state import state_digest
from edgeprune.units import format_percent

Judge = Callable[[nn.Module], Mapping[str, float]]
"""What is measured after each epoch: name -> number; `accuracy` is shown."""


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        model: an ordinary network, in the place and modes of the one that was given.
        history: an entry an epoch: epoch, loss (mean), rate (last), left, settled, and what the judge said.
        importances: tensor -> one number an output channel, where the method learned them.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    importances: Mapping[str, Tensor]

    @property
    def settled(self) -> list[dict[str, Any]]:
        """The history since the network had the shape that it came out with."""
        return [entry for entry in self.history if entry["settled"]]


def train(
    model: nn.Module, data: Data, recipe: Recipe, *, checkpoint: Path | None = None, progress: Progress = SILENT
) -> nn.Module:
    """Train a copy of `model` on the labels alone and return it; see `fit` for the rest."""
    return fit(model, data, recipe, checkpoint=checkpoint, progress=progress).model


def recover(
    model: nn.Module,
    teacher: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    progress: Progress = SILENT,
) -> nn.Module:
    """Train a copy of a narrow network on the labels and on the answers of the dense one; see `fit` for the rest."""
    return fit(
        model,
        data,
        recipe,
        teacher=teacher,
        checkpoint=checkpoint,
        progress=progress,
        what="recovering accuracy",
    ).model


def fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    method: Method | None = None,
    *,
    teacher: nn.Module | None = None,
    judge: Judge | None = None,
    checkpoint: Path | None = None,
    progress: Progress = SILENT,
    what: str = "training",
) -> Trained:
    """Train a copy of `model`.

    It runs on whatever device accelerate finds; the copy comes back on the device and in the modes (train or eval,
    module by module) of `model`. Neither `model` nor `teacher` nor torch's random state is changed.

    Args:
        model: gives logits (N, classes).
        data: images and labels.
        recipe: how to train.
        method: what is different about the training; nothing by default.
        teacher: a network with the same classes, whose answers are learned as well.
        judge: measures the network after each epoch.
        checkpoint: file that is replaced after each epoch. If it is there, and of the same networks, data and recipe,
            training goes on from it and ends with the same weights as if it had never stopped.
        progress: where a step a batch is shown.
        what: the step's name.

    Raises:
        InputError: the network has fewer outputs than the data have classes, or lacks what the method trains;
            or the loss is no longer a finite number.
    """
    method = method or Plain()
    if recipe.epochs == 0:
        return Trained(copy.deepcopy(model), [], {})
    identity = _identity(model, teacher, data, recipe, method)
    steps = data.train_steps(recipe.batch_size)
    learner = Learner(model, teacher, recipe, method, steps)
    done, history = learner.resume(checkpoint, identity, progress) if checkpoint is not None else (0, [])
    with _random_state_kept(learner.device), progress.step(what, recipe.epochs * steps) as shown:
        shown.advance(done * steps)
        for epoch in range(done, recipe.epochs):
            torch.manual_seed(stream_seed(recipe.seed, epoch))
            before = _last(history)
            losses = []
            batches = data.train_batches(recipe.batch_size, epoch, recipe.seed, share=learner.share)
            for index, (images, labels) in enumerate(batches):
                step = epoch * steps + index
                rate = recipe.rate(step, steps)
                losses.append(learner.learn(images, labels, rate, step))
                if not math.isfinite(losses[-1]):
                    raise _diverged(f"the loss is {losses[-1]} in epoch {epoch + 1}, step {index + 1}", recipe)
                shown.advance(
                    1, f"epoch {epoch + 1} of {recipe.epochs}, loss {losses[-1]:.3f}, rate {rate:.2g}{before}"
                )
            if not all(bool(torch.isfinite(one).all()) for one in learner.model.parameters()):
                raise _diverged(f"weights are not finite after epoch {epoch + 1}", recipe)
            history.append(
                {
                    "epoch": epoch + 1,
                    "loss": sum(losses) / len(losses),
                    "rate": rate,
                    "left": method.left(learner.model),
                    "settled": method.settled,
                    **(judge(learner.model) if judge is not None else {}),
                }
            )
            if checkpoint is not None:
                learner.save(checkpoint, identity, epoch + 1, history)
        importances = method.importances(learner.model)
        return Trained(learner.finished(model), history, importances)


def evaluate(model: nn.Module, data: Data, *, batch_size: int = 250, progress: Progress = SILENT) -> float:
    """Return top-1 accuracy on the validation images, in [0, 1], in the model's own precision.

    A faster device than the model's is used if accelerate finds one; the model stays where and as it is.
    """
    device = Accelerator().device
    own = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    # A device without a number is the one in use, so that it is that of any parameters of its kind.
    there = own.type == device.type and device.index in (None, own.index)
    judged = model if there else copy.deepcopy(model).to(device)
    correct, seen = 0, 0
    with eval_mode(judged), torch.no_grad(), progress.step("measuring accuracy", data.val_size) as step:
        for images, labels in data.val_batches(batch_size):
            answers = judged(images.to(device)).argmax(1).cpu()
            correct += int((answers == labels).sum())
            seen += len(labels)
            step.advance(len(labels))
    return correct / seen


def _last(history: list[dict[str, Any]]) -> str:
    """Return what the last epoch ended with, for the line that shows progress."""
    if not history:
        return ""
    accuracy, left = history[-1].get("accuracy"), history[-1]["left"]
    said = f", accuracy {format_percent(accuracy)}" if accuracy is not None else ""
    return said + (f", {format_percent(left)} left" if left < 1 else "")


def _diverged(seen: str, recipe: Recipe) -> InputError:
    return InputError(
        f"training diverged: {seen}, with a learning rate of at most {recipe.learning_rate:g}",
        remedy="lower the learning rate, and check that the images and the weights are finite",
    )


def _identity(model: nn.Module, teacher: nn.Module | None, data: Data, recipe: Recipe, method: Method) -> str:
    """Return a hash of all that decides the result, so that a checkpoint of another run is never gone on from."""
    parts = [
        state_digest(model),
        state_digest(teacher) if teacher is not None else None,
        data.digest,
        data.description,
        asdict(recipe),
        dict(method.settings),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
