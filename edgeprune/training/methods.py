"""What a pruning-aware method changes about training: the network, the loss, the optimizer's groups.

| method    | the network         | added to the loss                         | the network afterwards           |
|-----------|---------------------|-------------------------------------------|----------------------------------|
| none      | as it is            | nothing                                   | as it was                        |
| slimming  | as it is            | the sum of the BatchNorms' |scale|        | as it was                        |
| rni       | bounded BatchNorms  | what presses on low importances           | ordinary BatchNorms              |
| lapp      | bypasses, thresholds| what presses on the cost (`lapp.py`)      | narrower, at the cost asked for  |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgeprune.graph.cuts import Cuts
from edgeprune.training import rni, slimming
from edgeprune.training.groups import parameter_groups
from edgeprune.training.recipe import Recipe
from edgeprune.training.seeds import generator

_ALIVE = 0.02
"""Share of the largest importance below which a channel counts as gone."""


@dataclass(frozen=True)
class Change:
    """A network that takes the place of the one that learns: `cuts` says which entries of its tensors are left."""

    model: nn.Module
    cuts: Cuts


class Method(Protocol):
    """A way to train.

    `model` is always the network that `start` returned, or the one that replaced it; never a wrapper around it.
    """

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the result, as JSON."""

    def start(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> nn.Module:
        """Return the network to train in place of `model`, which it may change; called once, first."""

    def groups(self, model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
        """Return the optimizer's groups; each learns at the recipe's rate times its own `lr` / `learning_rate`."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return what is added to the loss of this step."""

    def stepped(self, model: nn.Module, step: int) -> Change | None:
        """Look at the network after a step, counted from 0 over all epochs; return what takes its place, if any."""

    @property
    def settled(self) -> bool:
        """Whether the network has the shape that it will end with."""

    def left(self, model: nn.Module) -> float:
        """Return the share of the network that is left, in [0, 1]."""

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as plain values and tensors."""

    def restore(self, model: nn.Module, state: Mapping[str, Any]) -> nn.Module:
        """Go on from `state`; return the network as it was built then, with any weights."""

    def finish(self, model: nn.Module) -> nn.Module:
        """Return an ordinary network that computes the same."""

    def importances(self, model: nn.Module) -> dict[str, Tensor]:
        """Return tensor of the finished network -> one number an output channel; empty where nothing was learned."""

    @property
    def structure(self) -> Mapping[str, Any] | None:
        """What was built into the network, as JSON for `lapp.rebuild`; None where it is what its code builds."""

    @property
    def cuts(self) -> Cuts:
        """What was cut from the network after that."""


@dataclass(frozen=True)
class Plain:
    """Training on the loss alone."""

    @property
    def name(self) -> str:
        return "none"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"method": self.name, **vars(self)}

    def start(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> nn.Module:
        return model

    def groups(self, model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
        return parameter_groups(model, recipe.learning_rate, recipe.weight_decay, decay_vectors=recipe.decay_vectors)

    def penalty(self, model: nn.Module) -> Tensor | None:
        return None

    def stepped(self, model: nn.Module, step: int) -> Change | None:
        return None

    @property
    def settled(self) -> bool:
        return True

    def left(self, model: nn.Module) -> float:
        return 1.0

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, model: nn.Module, state: Mapping[str, Any]) -> nn.Module:
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        return model

    def importances(self, model: nn.Module) -> dict[str, Tensor]:
        return {}

    @property
    def structure(self) -> Mapping[str, Any] | None:
        return None

    @property
    def cuts(self) -> Cuts:
        return Cuts()


@dataclass(frozen=True)
class Slimming(Plain):
    """L1 on the BatchNorms' scales; `strength` is the weight of their sum (the paper's 1e-4 to 1e-5)."""

    strength: float = 1e-4

    @property
    def name(self) -> str:
        return "slimming"

    def penalty(self, model: nn.Module) -> Tensor | None:
        return self.strength * slimming.penalty(model)

    def left(self, model: nn.Module) -> float:
        return _alive(slimming.importances(model))

    def importances(self, model: nn.Module) -> dict[str, Tensor]:
        return _by_tensor(slimming.importances(model))


@dataclass(frozen=True)
class Rni(Plain):
    """Bounded BatchNorms and the penalty on low importances.

    Attributes:
        strength: weight of the penalty, which is a sum over channels.
        shift: b of the penalty.
        trained: keep what the network computes at the start, rather than draw its scales anew.
    """

    strength: float = 1e-4
    shift: float = 0.0
    trained: bool = False

    @property
    def name(self) -> str:
        return "rni"

    def start(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> nn.Module:
        return rni.convert(model, trained=self.trained, generator=generator(recipe.seed))

    def groups(self, model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
        return rni.parameter_groups(
            model, recipe.learning_rate, recipe.weight_decay, decay_vectors=recipe.decay_vectors
        )

    def penalty(self, model: nn.Module) -> Tensor | None:
        return self.strength * rni.penalty(model, self.shift)

    def left(self, model: nn.Module) -> float:
        return _alive(rni.importances(model))

    def finish(self, model: nn.Module) -> nn.Module:
        return rni.fold(model)

    def importances(self, model: nn.Module) -> dict[str, Tensor]:
        return _by_tensor(rni.importances(model))


def _by_tensor(importances: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.weight": values.cpu() for name, values in importances.items()}


def _alive(importances: Mapping[str, Tensor]) -> float:
    found = torch.cat(list(importances.values()))
    return float((found >= _ALIVE * found.max()).float().mean())
