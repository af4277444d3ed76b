"""A network that learns: its copy on the device that accelerate found, its optimizer, its teacher, its checkpoint."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn

from edgeprune.errors import InputError
from edgeprune.progress import Progress
from edgeprune.records import write_bytes
from edgeprune.training.distill import recovery_loss
from edgeprune.training.images import Share
from edgeprune.training.methods import Change, Method
from edgeprune.training.recipe import Recipe


class Learner:
    """A copy of a network, learning by a method.

    Under `accelerate launch` with several processes each holds the same network, learns from its share of every batch,
    and the gradients are averaged: together they take the steps that one process would, but that a BatchNorm sees its
    own process's share alone.

    Raises:
        InputError: the batch size is no multiple of the processes.
    """

    def __init__(
        self, model: nn.Module, teacher: nn.Module | None, recipe: Recipe, method: Method, steps_per_epoch: int
    ) -> None:
        self.recipe = recipe
        self.method = method
        self.accelerator = Accelerator()
        self.device: torch.device = self.accelerator.device
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        if recipe.batch_size % self.share.of:
            raise InputError(
                f"batches of {recipe.batch_size} images can't be shared evenly by {self.share.of} processes",
                remedy="choose a batch size that is a multiple of the processes",
            )
        self._prepare(on_device(self.device, method.start(copy.deepcopy(model), recipe, steps_per_epoch)).train())
        self.teacher = on_device(self.device, teacher).eval() if teacher is not None else None

    @property
    def model(self) -> nn.Module:
        """The network itself, without what accelerate may have wrapped around it."""
        # Settings of the user's own may have made accelerate wrap it on one device too.
        model: nn.Module = self.accelerator.unwrap_model(self._student, keep_fp32_wrapper=False)
        return model

    def learn(self, images: Tensor, labels: Tensor, rate: float, step: int) -> float:
        """Learn from this process's share of a batch at learning rate `rate`; return the loss of the whole batch.

        What the method adds to the loss is left out, unless it is no finite number.
        """
        layout = torch.channels_last if images.ndim == 4 else torch.preserve_format
        images, labels = images.to(self.device, memory_format=layout), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_has_bfloat16(self.device)):
            logits = self._student(images)
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
        penalty = self.method.penalty(self.model)
        total = loss if penalty is None else loss + penalty
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self._optimizer.zero_grad()
        self.accelerator.backward(total)
        self._optimizer.step()
        change = self.method.stepped(self.model, step)
        if change is not None:
            self._replace(change)
        both = torch.stack([loss.detach(), total.detach()])
        alone, added_up = self.accelerator.reduce(both, "mean").tolist()
        return float(alone if math.isfinite(added_up) else added_up)

    def save(self, path: Path, identity: str, epochs: int, history: list[dict[str, Any]]) -> None:
        """Replace the checkpoint by one after `epochs` epochs, in one step; of several processes the first does it."""
        if not self.accelerator.is_main_process:
            return
        stream = io.BytesIO()
        content = {
            "identity": identity,
            "epochs": epochs,
            "history": history,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "method": self.method.state(),
        }
        torch.save(content, stream)
        write_bytes(path, stream.getvalue())

    def resume(self, path: Path, identity: str, progress: Progress) -> tuple[int, list[dict[str, Any]]]:
        """Load the checkpoint if there is one of this very run; return how many epochs are done, and their history."""
        if not path.exists():
            return 0, []
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # on a torn file torch raises whatever its unpickler stumbles over
            progress.say(f"{path} cannot be read ({type(error).__name__}): training starts anew")
            return 0, []
        if not isinstance(content, dict) or content.get("identity") != identity:
            progress.say(f"{path} is of another network, data or recipe: training starts anew")
            return 0, []
        before = self.model
        model = self.method.restore(before, content["method"])
        if model is not before:
            self._prepare(on_device(self.device, model).train())
        self.model.load_state_dict(content["model"])
        self._optimizer.load_state_dict(content["optimizer"])
        epochs = int(content["epochs"])
        progress.say(f"going on after epoch {epochs}, from {path}")
        return epochs, list(content["history"])

    def finished(self, model: nn.Module) -> nn.Module:
        """Return the network that learned as an ordinary one, in the place, layout and modes of `model`."""
        trained = self.method.finish(self.model)
        place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        trained.to(device=place, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        trained.zero_grad(set_to_none=True)
        modes = {name: module.training for name, module in model.named_modules()}
        for name, module in trained.named_modules():
            module.training = modes.get(name, model.training)
        return trained

    def _prepare(self, student: nn.Module) -> None:
        recipe = self.recipe
        groups = self.method.groups(student, recipe)
        for group in groups:
            group["factor"] = group["lr"] / recipe.learning_rate
        optimizer = torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, nesterov=recipe.momentum > 0)
        self._student, self._optimizer = self.accelerator.prepare(student, optimizer)

    def _replace(self, change: Change) -> None:
        """Go on with another network, the momentum of what is left carried over."""
        named = dict(self.model.named_parameters())
        momentum = self._optimizer.state
        carried = {name: dict(momentum[one]) for name, one in named.items() if one in momentum}
        self.accelerator.free_memory()  # else it would keep the network that is replaced
        self._prepare(change.model.train())
        for name, parameter in self.model.named_parameters():
            if name in carried:
                cuts = change.cuts.tensors.get(name)
                self._optimizer.state[parameter] = _cut_state(carried[name], named[name].shape, cuts)


def _cut_state(state: Mapping[str, Any], shape: torch.Size, cuts: Mapping[int, Any] | None) -> dict[str, Any]:
    """Return what an optimizer remembers of a parameter of `shape`, for the entries that are left."""
    found = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == shape:
            for dim, kept in (cuts or {}).items():
                value = value.index_select(dim, torch.as_tensor(kept, device=value.device))
        found[key] = value
    return found


def on_device(device: torch.device, model: nn.Module) -> nn.Module:
    """Return a copy on `device`, in the layout that oneDNN's and cuDNN's convolutions work in."""
    moved: nn.Module = copy.deepcopy(model).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _has_bfloat16(device: torch.device) -> bool:
    """Say whether the device computes in bfloat16 by itself; emulated, it is several times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(ask() for ask in asked if ask is not None)
    return False


def check_trainable(name: str, model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Refuse a network that gives something else while it trains than logits, such as those of auxiliary heads too.

    Args:
        name: of the network.
        model: it; left alone.
        inputs: what it is called with, one sample.

    Raises:
        InputError: with what it gives, or with what it fails with.
    """
    tried = copy.deepcopy(model).train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = tried(*(torch.cat([one, one]) for one in inputs))
    except Exception as error:  # whatever the network's own code raises
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{name} fails while it trains: {type(error).__name__}: {reason}",
            remedy="check that it can be trained on this input; export can do without training (--epochs 0)",
        ) from None
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"{name} returns {type(outputs).__name__} while it trains, and no tensor of logits",
            remedy="build it without auxiliary heads (aux_logits=False); export can do without training (--epochs 0)",
        )


def _check_outputs(logits: Any, labels: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the network returns {shape}, not logits (N, classes)", remedy="train a classifier")
    largest = int(labels.max())
    if largest >= logits.shape[1]:
        raise InputError(
            f"the data have a label {largest} and the network {logits.shape[1]} outputs",
            remedy="use data and a network with the same classes",
        )
