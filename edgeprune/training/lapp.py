"""LAPP, Layer Adaptive Progressive Pruning: a learnable threshold a layer, from scratch, to a cost that is met exactly.

Zhai et al., "LAPP: Layer Adaptive Progressive Pruning for Compressing CNNs from Scratch" (2023, arXiv 2309.14157).
Only its abstract could be read, and no code is public. The abstract says: one learnable threshold a layer; a constraint
on the whole network's FLOPs; both the task's loss and the constraint update the thresholds; the network is compressed
gradually in the first few epochs of ordinary training from scratch; each layer to be pruned gets a lightweight bypass
before that. ALL ELSE IS OUR READING:

- a filter's importance is its mean |weight| over its layer's mean; what is not above the threshold is masked, with the
  estimator of `thresholds.py`, and masked filters go on learning while the pruning lasts;
- the loss gets w * (cost - R)^2, where R falls from 1 to the target along a cubic, and w grows while the cost is above
  R (dual ascent), so that the constraint is met whatever the scale of the task's loss; below R it lets filters return;
- an epoch without pruning, then a tenth of the training for it; no threshold moves by more than 4 / (steps of the
  pruning) in a step, since at the start all filters of a layer are about as large as each other and would go at once;
- then all thresholds move by one common offset until the cost is at most one filter below the target, bypasses
  included; the masked filters are removed, the momentum of the others is kept, and training goes on to its end;
- which layers: convolutions with a kernel above 1x1, not grouped, not the first.

Two readings of what goes. `filters`: the layer keeps its output width, the filters left add onto the bypass, and every
body convolution can be pruned. `channels`: the output channels go from convolution, bypass and all that reads them, so
that only convolutions within a block can be pruned; fewer are free to go, and what is left runs fast.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.errors import InputError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.cuts import Cuts
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import cut
from edgeprune.training.bypass import Bypassed, add_bypasses, bypassed
from edgeprune.training.groups import parameter_groups
from edgeprune.training.lapp_network import mask_norms, remove_filters, unmask_norms
from edgeprune.training.lapp_units import Unit, channel_macs, filter_macs, inner_units, prunable, refuse_unreachable
from edgeprune.training.methods import Change, Plain
from edgeprune.training.recipe import Recipe
from edgeprune.training.seeds import stream_seed
from edgeprune.training.thresholds import Cost, land, relative_sizes

REMOVES = ("filters", "channels")
_LARGEST_MOVE = 4.0
_FIRST_WEIGHT = 1.0
_ASCENT = 100.0


@dataclass(frozen=True)
class Settings:
    """What LAPP is asked for.

    Attributes:
        target: share of the dense network's cost that is left, bypasses included.
        removes: `filters` or `channels`, the two readings.
        bypass: `pointwise`, `depthwise` or `none`.
        pruning: share of the training in which it prunes.
        dense_epochs: epochs without pruning before that.
        uniform: every layer keeps the same share of its filters, the largest, and no threshold learns: the control that
            shows what learned rates are worth.
        unit: what the cost is, for a person.
    """

    target: float
    removes: str = "filters"
    bypass: str = "pointwise"
    pruning: float = 0.1
    dense_epochs: float = 1.0
    uniform: bool = False
    unit: str = "MACs"


class Lapp(Plain):
    """The method, for `loop.fit`; it keeps the state of one training.

    Args:
        settings: what is asked for.
        example_inputs: one sample, to find the layers' sizes with.
        cost: of widths (channel group -> channels), as a share of the dense network's; MACs by default. A latency's
            slopes come from the measured staircases, so that thresholds move where a step is near. Only where
            channels go.

    Raises:
        InputError: a target or a reading that can't be.
    """

    def __init__(self, settings: Settings, example_inputs: Any, cost: Cost | None = None) -> None:
        if settings.removes not in REMOVES:
            raise InputError(f"LAPP can't remove {settings.removes!r}", remedy=f"use {' or '.join(REMOVES)}")
        if not 0 < settings.target < 1:
            raise InputError(f"LAPP's target {settings.target} is not in (0, 1)", remedy="0.4 leaves 40 % of the cost")
        if cost is not None and settings.removes == "filters":
            raise InputError(
                "a cost other than MACs is known by channels, and filters alone were to be removed",
                remedy="remove channels",
            )
        self._asked = settings
        self._inputs = example_inputs
        self._cost = cost
        self._units: dict[str, Unit] = {}
        self._weight = _FIRST_WEIGHT
        self._before: dict[str, Tensor] = {}
        self._landed: dict[str, dict[str, Any]] = {}
        self._now = 0

    @property
    def name(self) -> str:
        return "lapp"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"method": self.name, **asdict(self._asked)}

    @property
    def structure(self) -> Mapping[str, Any] | None:
        kept = {one["layer"]: one["kept"] for one in self._landed.values()}
        filters = kept if self._asked.removes == "filters" else {}
        return {"bypass": self._asked.bypass, "layers": self._layers, "filters": filters}

    @property
    def cuts(self) -> Cuts:
        if self._asked.removes == "filters":
            return Cuts()
        return WidthPlan(self._dense, {name: np.asarray(one["kept"]) for name, one in self._landed.items()}).cuts

    def start(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> nn.Module:
        total = recipe.epochs * steps_per_epoch
        self._pruning_steps = max(1, round(self._asked.pruning * total))
        self._first = min(round(self._asked.dense_epochs * steps_per_epoch), total - self._pruning_steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(recipe.seed))
            dense = self._build(model)
        refuse_unreachable(model, self._units, self._costs, self._asked.target, self._asked.removes, self._asked.bypass)
        self._dense = dense
        for name, layer in bypassed(model).items():
            if name in {unit.layer for unit in self._units.values()}:
                layer.open(masks_filters=self._asked.removes == "filters")
        mask_norms(model, self._units.values())
        return model

    def groups(self, model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
        thresholds = [one.threshold for one in bypassed(model).values() if one.threshold is not None]
        groups = parameter_groups(
            model, recipe.learning_rate, recipe.weight_decay, special=thresholds, decay_vectors=recipe.decay_vectors
        )
        if thresholds:
            groups[-1].update(momentum=0.0, nesterov=False)
        return groups

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return the constraint's part of the loss, and note where the thresholds are."""
        if self._landed:
            return None
        layers = self._open(model)
        self._before = {name: _threshold(layer).detach().clone() for name, layer in layers.items()}
        if self._now < self._first or self._asked.uniform:
            return None
        counts = {name: layer.mask().sum() for name, layer in layers.items()}
        widths = torch.stack(list(counts.values())).tolist()  # one wait for the device, not one a layer
        share, slopes = self._costs({name: round(width) for name, width in zip(counts, widths, strict=True)})
        excess = share - self._allowed()
        self._weight = max(_FIRST_WEIGHT, self._weight + _ASCENT / self._pruning_steps * excess)
        # The cost is a number with slopes, not a graph: around the widths that are there it is this plane.
        plane = share + sum(slopes[name] * (count - count.detach()) for name, count in counts.items())
        return self._weight * (torch.as_tensor(plane) - self._allowed()).square()

    def stepped(self, model: nn.Module, step: int) -> Change | None:
        self._now = step + 1
        if self._landed:
            return None
        moving = self._now > self._first and not self._asked.uniform
        largest = _LARGEST_MOVE / self._pruning_steps if moving else 0.0
        with torch.no_grad():
            for name, layer in self._open(model).items():
                layer.renew()
                before = self._before[name]
                # The largest filter bounds it too: a threshold far above all filters would be slow to come back.
                high = torch.minimum(before + largest, torch.maximum(before, relative_sizes(_filters(layer)).max()))
                _threshold(layer).clamp_((before - largest).clamp_min(0), high)
        return self._land(model) if self._now == self._first + self._pruning_steps else None

    @property
    def settled(self) -> bool:
        return bool(self._landed)

    def left(self, model: nn.Module) -> float:
        return self._costs(self._widths(model))[0]

    def state(self) -> dict[str, Any]:
        return {"weight": self._weight, "landed": self._landed, "now": self._now}

    def restore(self, model: nn.Module, state: Mapping[str, Any]) -> nn.Module:
        self._weight, self._landed, self._now = state["weight"], dict(state["landed"]), int(state["now"])
        if not self._landed:
            return model
        return self._narrowed(model)[0]

    def importances(self, model: nn.Module) -> dict[str, Tensor]:
        """Return how far each filter that is left lies over its layer's threshold, in units of the layer's mean."""
        found = {}
        layers = bypassed(model)
        for landed in self._landed.values():
            conv = layers[landed["layer"]].conv
            if conv is not None:
                sizes = conv.weight.detach().abs().flatten(1).mean(1).cpu() / landed["mean"]
                found[f"{landed['layer']}.conv.weight"] = (sizes - landed["threshold"]).clamp_min(0)
        return found

    def _build(self, model: nn.Module) -> ChannelGraph:
        """Put the bypasses in, and find what has a threshold and what everything costs."""
        plain = trace(model, self._inputs)
        self._layers = list(prunable(model, plain, self._asked.bypass))
        add_bypasses(model, tuple(self._layers), self._asked.bypass)
        graph = trace(model, self._inputs)
        dense = plain.macs()
        if self._asked.removes == "filters":
            least = 0 if self._asked.bypass != "none" else 1
            self._units = {name: Unit(name, (), least) for name in bypassed(model)}
            self._costs: Cost = self._cost or filter_macs(graph, self._widths(model), dense)
        else:
            self._units = inner_units(model, graph)
            self._costs = self._cost or channel_macs(graph, dense)
        if not self._units:
            raise InputError(
                f"{type(model).__name__} has no convolution that LAPP could prune by {self._asked.removes}",
                remedy="use --removes channels with --bypass none, or another --method",
            )
        return graph

    @torch.no_grad()
    def _widths(self, model: nn.Module) -> dict[str, int]:
        """Return unit -> filters that are not masked."""
        layers, found = bypassed(model), {}
        for name, unit in self._units.items():
            layer = layers[unit.layer]
            if layer.conv is None:
                found[name] = 0
            else:
                found[name] = layer.conv.out_channels if layer.threshold is None else int(layer.mask().sum())
        return found

    def _open(self, model: nn.Module) -> dict[str, Bypassed]:
        """Return unit -> layer, for those with a threshold."""
        layers = bypassed(model)
        return {
            name: layers[unit.layer] for name, unit in self._units.items() if layers[unit.layer].threshold is not None
        }

    def _allowed(self) -> float:
        """Return the share of the cost that is allowed by now: from 1 down to the target, fast at first."""
        done = min(1.0, (self._now - self._first + 1) / self._pruning_steps)
        return self._asked.target + (1 - self._asked.target) * (1 - done) ** 3

    def _land(self, model: nn.Module) -> Change:
        layers = self._open(model)
        with torch.no_grad():
            means = {name: float(_filters(layer).abs().mean()) for name, layer in layers.items()}
            margins = {name: self._margins(layer) for name, layer in layers.items()}
        kept = land(margins, {name: self._units[name].floor for name in layers}, self._costs, self._asked.target)
        gone = [margin for name in layers for margin in _others(margins[name], kept[name])]
        for name, layer in layers.items():
            self._landed[name] = {
                "layer": self._units[name].layer,
                "kept": kept[name].tolist(),
                "of": len(margins[name]),
                "threshold": float(_threshold(layer).detach()) + max(gone, default=0.0),
                "mean": means[name],
            }
        return Change(*self._narrowed(model))

    def _margins(self, layer: Bypassed) -> Tensor:
        """Return how far each filter lies over the layer's threshold; with uniform rates its rank, from 0 to 1."""
        sizes = relative_sizes(_filters(layer))
        if self._asked.uniform:
            return (sizes.argsort().argsort() / len(sizes)).cpu()
        return (sizes - _threshold(layer).detach()).cpu()

    def _narrowed(self, model: nn.Module) -> tuple[nn.Module, Cuts]:
        """Return the network without what has gone, and what that took from which tensors."""
        narrow = copy.deepcopy(model)
        for layer in bypassed(narrow).values():
            layer.close()
        unmask_norms(narrow, self._units.values())
        if self._asked.removes == "channels":
            return cut(narrow, self.cuts), self.cuts
        return narrow, remove_filters(narrow, (self.structure or {})["filters"])


def _threshold(layer: Bypassed) -> nn.Parameter:
    assert layer.threshold is not None
    return layer.threshold


def _filters(layer: Bypassed) -> Tensor:
    assert layer.conv is not None
    return layer.conv.weight


def _others(values: Tensor, kept: Tensor) -> list[float]:
    rest = torch.ones(len(values), dtype=torch.bool)
    rest[kept] = False
    found: list[float] = values[rest].tolist()
    return found
