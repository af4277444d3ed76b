"""One training loop, for networks from scratch and for networks that were cut and learn again from the dense one."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn

from edgeprune.errors import EdgePruneError, InputError
from edgeprune.graph.trace import eval_mode
from edgeprune.progress import SILENT, Progress
from edgeprune.records import write_bytes
from edgeprune.training.data import Data
from edgeprune.training.distill import recovery_loss
from edgeprune.training.images import stream_seed
from edgeprune.training.state import state_digest


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov's momentum, linear warm-up, then a cosine down to zero.

    The defaults are those of a short recovery. Measured on ResNet-20 cut to half of its MACs (4,000 training images of
    CIFAR-10, 3 epochs, batches of 32; 91.5 % before the cut, 69.6 % after it, 1,000 validation images): learning rate
    0.003 gives 86.7 %, 0.006 86.8 %, 0.01 83.3 %. Training from scratch wants a far larger one.

    Attributes:
        epochs: passes over the training images; 0 trains nothing.
        learning_rate: the largest one, right after the warm-up.
        momentum: of the gradient, from 0 to 1.
        weight_decay: on weights of two and more dimensions; biases and BatchNorm have none.
        batch_size: images a step.
        warmup_epochs: passes (or a part of one) in which the learning rate rises from zero.
        distillation: share of the dense network's answers in the loss, from 0 to 1; no part where there is no teacher.
        temperature: by which both networks' answers are softened.
        label_smoothing: share of each label that is spread over all classes, from 0 to 1.
        seed: of the images' order and variation, and of dropout.
    """

    epochs: int = 3
    learning_rate: float = 0.004
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 32
    warmup_epochs: float = 0.25
    distillation: float = 0.9
    temperature: float = 4.0
    label_smoothing: float = 0.0
    seed: int = 0

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""
        total, warmup = self.epochs * steps_per_epoch, self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))


def train(
    model: nn.Module, data: Data, recipe: Recipe, *, checkpoint: Path | None = None, progress: Progress = SILENT
) -> nn.Module:
    """Train a copy of `model` on the labels alone and return it; see `recover` for the rest."""
    return _fit(model, None, data, recipe, checkpoint, progress, "training")


def recover(
    model: nn.Module,
    teacher: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    progress: Progress = SILENT,
) -> nn.Module:
    """Train a copy of a narrow network on the labels and on the answers of the dense one, and return it.

    It runs on whatever device accelerate finds; the copy comes back on the device and in the modes (train or eval,
    module by module) of `model`. Neither `model` nor `teacher` nor torch's random state is changed.

    Args:
        model: the narrow network; gives logits (N, classes).
        teacher: the dense network, with the same classes.
        data: images and labels.
        recipe: how to train.
        checkpoint: file that is replaced after each epoch. If it is there, and of the same networks, data and recipe,
            training goes on from it and ends with the same weights as if it had never stopped.
        progress: where a step a batch is shown.

    Raises:
        InputError: the network has fewer outputs than the data have classes.
        EdgePruneError: the loss is no longer a finite number.
    """
    return _fit(model, teacher, data, recipe, checkpoint, progress, "recovering accuracy")


def evaluate(model: nn.Module, data: Data, *, batch_size: int = 250, progress: Progress = SILENT) -> float:
    """Return top-1 accuracy on the validation images, in [0, 1], in the model's own precision.

    A faster device than the model's is used if accelerate finds one; the model stays where and as it is.
    """
    device = Accelerator().device
    judged = model if _device(model) == device else copy.deepcopy(model).to(device)
    correct, seen = 0, 0
    with eval_mode(judged), torch.no_grad(), progress.step("measuring accuracy", data.val_size) as step:
        for images, labels in data.val_batches(batch_size):
            answers = judged(images.to(device)).argmax(1).cpu()
            correct += int((answers == labels).sum())
            seen += len(labels)
            step.advance(len(labels))
    return correct / seen


def _fit(
    model: nn.Module,
    teacher: nn.Module | None,
    data: Data,
    recipe: Recipe,
    checkpoint: Path | None,
    progress: Progress,
    what: str,
) -> nn.Module:
    if recipe.epochs == 0:
        return copy.deepcopy(model)
    learner = _Learner(model, teacher, recipe)
    identity = _identity(model, teacher, data, recipe)
    done = learner.resume(checkpoint, identity, progress) if checkpoint is not None else 0
    steps = data.train_steps(recipe.batch_size)
    with _random_state_kept(learner.device), progress.step(what, recipe.epochs * steps) as shown:
        shown.advance(done * steps)
        for epoch in range(done, recipe.epochs):
            torch.manual_seed(stream_seed(recipe.seed, epoch))
            for index, (images, labels) in enumerate(data.train_batches(recipe.batch_size, epoch, recipe.seed)):
                loss = learner.learn(images, labels, recipe.rate(epoch * steps + index, steps))
                if not math.isfinite(loss):
                    raise _diverged(loss, epoch, index, recipe)
                shown.advance(1, f"epoch {epoch + 1} of {recipe.epochs}, loss {loss:.3f}")
            if checkpoint is not None:
                learner.save(checkpoint, identity, epoch + 1)
    return learner.like(model)


class _Learner:
    """A copy of a network on the device that accelerate found, its optimizer and its teacher."""

    def __init__(self, model: nn.Module, teacher: nn.Module | None, recipe: Recipe) -> None:
        self.recipe = recipe
        self.accelerator = Accelerator()
        self.device: torch.device = self.accelerator.device
        student = _on(self.device, model).train()
        self.student, self.optimizer = self.accelerator.prepare(student, _optimizer(student, recipe))
        self.teacher = _on(self.device, teacher).eval() if teacher is not None else None

    def learn(self, images: Tensor, labels: Tensor, rate: float) -> float:
        """Learn from one batch at learning rate `rate` and return its loss."""
        layout = torch.channels_last if images.ndim == 4 else torch.preserve_format
        images, labels = images.to(self.device, memory_format=layout), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_has_bfloat16(self.device)):
            logits = self.student(images)
            with torch.no_grad():
                target = self.teacher(images) if self.teacher is not None else None
        _check_outputs(logits, labels)
        loss = recovery_loss(
            logits,
            labels,
            target,
            weight=self.recipe.distillation,
            temperature=self.recipe.temperature,
            label_smoothing=self.recipe.label_smoothing,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        return float(loss.detach())

    def save(self, path: Path, identity: str, epochs: int) -> None:
        """Replace the checkpoint by one after `epochs` epochs, in one step."""
        state = {"model": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        stream = io.BytesIO()
        torch.save({"identity": identity, "epochs": epochs, **state}, stream)
        write_bytes(path, stream.getvalue())

    def resume(self, path: Path, identity: str, progress: Progress) -> int:
        """Load the checkpoint if there is one of this very run, and return how many epochs are done."""
        if not path.exists():
            return 0
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # on a torn file torch raises whatever its unpickler stumbles over
            progress.say(f"{path} cannot be read ({type(error).__name__}): training starts anew")
            return 0
        if not isinstance(content, dict) or content.get("identity") != identity:
            progress.say(f"{path} is of another network, data or recipe: training starts anew")
            return 0
        self.student.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        epochs = int(content["epochs"])
        progress.say(f"going on after epoch {epochs}, from {path}")
        return epochs

    def like(self, model: nn.Module) -> nn.Module:
        """Return the network that learned, in the place, layout and modes of `model`."""
        # Settings of the user's own may have made accelerate wrap it.
        trained: nn.Module = self.accelerator.unwrap_model(self.student, keep_fp32_wrapper=False)
        trained.to(device=_device(model), memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        trained.zero_grad(set_to_none=True)
        for module, source in zip(trained.modules(), model.modules(), strict=True):
            module.training = source.training
        return trained


def _on(device: torch.device, model: nn.Module) -> nn.Module:
    """Return a copy on `device`, in the layout that oneDNN's and cuDNN's convolutions work in."""
    moved: nn.Module = copy.deepcopy(model).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in learned if parameter.ndim > 1]
    others = [parameter for parameter in learned if parameter.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _has_bfloat16(device: torch.device) -> bool:
    """Say whether the device computes in bfloat16 by itself; emulated, it is several times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(ask() for ask in asked if ask is not None)
    return False


def _check_outputs(logits: Any, labels: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"the network returns {shape}, not logits (N, classes)", remedy="use a classifier, or --epochs 0"
        )
    largest = int(labels.max())
    if largest >= logits.shape[1]:
        raise InputError(
            f"the data have a label {largest} and the network {logits.shape[1]} outputs",
            remedy="use data and a network with the same classes",
        )


def _diverged(loss: float, epoch: int, index: int, recipe: Recipe) -> EdgePruneError:
    return EdgePruneError(
        f"training diverged: the loss is {loss} in epoch {epoch + 1}, step {index + 1}, "
        f"with a learning rate of at most {recipe.learning_rate:g}",
        remedy="lower the learning rate, and check that the images and the weights are finite",
    )


def _identity(model: nn.Module, teacher: nn.Module | None, data: Data, recipe: Recipe) -> str:
    """Return a hash of all that decides the result, so that a checkpoint of another run is never gone on from."""
    parts = [
        state_digest(model),
        state_digest(teacher) if teacher is not None else None,
        data.digest,
        data.description,
        asdict(recipe),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
