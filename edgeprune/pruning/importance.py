"""How much each channel matters: one score a channel, higher means more important.

| criterion                        | score of a channel                                                              |
|----------------------------------|---------------------------------------------------------------------------------|
| taylor                           | mean over the batches of |sum of gradient * w over the weights that read it|    |
| obs                              | expected squared change of the logits, its readers refitted (pruning/surgeon.py)|
| l1                               | sum of |w| over the weights that make it and that read it                       |
| l2                               | square root of the sum of w^2 over the same weights                             |
| bn_scale                         | sum of |gamma| over its BatchNorms                                              |
| trained                          | sum of what training with RNI, slimming or LAPP gave to what makes it           |
| group_taylor, group_l1, group_l2 | the same, divided by the group's mean: compares channels within a group only    |

Taylor is how much the loss would change, to first order, if nothing read the channel any more. BatchNorm's
gamma * gradient + beta * gradient (HALP, Shen et al. 2022) is the same number where one BatchNorm follows one
convolution; counting what reads the channel is right as well where there are several BatchNorms or none. Measured on
ResNet-20 (CIFAR-10, 1,000 images) cut to 55 % of its MACs by these scores alone, BatchNorm re-estimated:
75.7 % top-1; squared before the mean 69.0 %; squared, and over all of a channel's entries 61.2 %; l1 67.9 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.errors import InputError, nearest
from edgeprune.graph.channels import ChannelGraph, ChannelGroup, Slot
from edgeprune.graph.inputs import eval_mode
from edgeprune.pruning.surgeon import obs

Batches = Iterable[tuple[Tensor, Tensor]]
Scores = dict[str, np.ndarray]
Trained = Mapping[str, np.ndarray]
_Score = Callable[[nn.Module, ChannelGraph, "Given"], Scores]

# The dimension of a weight along which it reads channels.
_READS: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.ConvTranspose1d, 0),
    (nn.ConvTranspose2d, 0),
    (nn.ConvTranspose3d, 0),
    (nn.Conv1d, 1),
    (nn.Conv2d, 1),
    (nn.Conv3d, 1),
    (nn.Linear, 1),
)


@dataclass(frozen=True)
class Given:
    """What a criterion may look at beside the network: batches, and tensor -> one importance an output channel."""

    batches: Batches = ()
    trained: Trained | None = None


@dataclass(frozen=True)
class Criterion:
    """A way to score channels.

    Attributes:
        needs_data: whether it looks at batches.
        score: (model in eval mode, graph, what is given) -> group -> one score a channel.
        needs_training: whether it looks at what training gave.
    """

    needs_data: bool
    score: _Score
    needs_training: bool = False


def scores(
    model: nn.Module,
    graph: ChannelGraph,
    criterion: str = "taylor",
    batches: Batches | None = None,
    trained: Trained | None = None,
) -> Scores:
    """Score every channel of every group; `model`, its gradients and its modes stay as they are.

    Args:
        model: the network that `graph` was traced from; it is scored in eval mode.
        graph: its channel groups.
        criterion: a name in `CRITERIA`.
        batches: (images, labels) pairs, for a criterion that needs data; moved to where the model is.
        trained: tensor -> one importance an output channel, for the criterion `trained`.

    Returns:
        Group -> float64 array (channels,), in the order of the group's channels.

    Raises:
        InputError: an unknown criterion, nothing of what it needs, or scores that are not finite.
    """
    chosen = usable(criterion, data=batches is not None, trained=bool(trained))
    with eval_mode(model):
        found = chosen.score(model, graph, Given(batches if batches is not None else (), trained))
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise InputError(
                f"scores of group {name!r} are not finite", remedy="check that the weights and the images are finite"
            )
    return found


def usable(criterion: str, *, data: bool, trained: bool) -> Criterion:
    """Return a criterion by its name, where there is what it needs.

    Raises:
        InputError: an unknown one, or it needs data or a training that there is not.
    """
    if criterion not in CRITERIA:
        raise InputError(
            f"no criterion is named {criterion!r}{nearest(criterion, CRITERIA)}", remedy=f"use {', '.join(CRITERIA)}"
        )
    chosen = CRITERIA[criterion]
    if chosen.needs_data and not data:
        without = [name for name, one in CRITERIA.items() if not one.needs_data and not one.needs_training]
        raise InputError(f"criterion {criterion!r} needs data", remedy=f"give --data, or use {', '.join(without)}")
    if chosen.needs_training and not trained:
        raise InputError(
            f"criterion {criterion!r} needs a network that was trained to be pruned",
            remedy="name a folder that `edgeprune train` wrote, or use another criterion",
        )
    return chosen


def without_training(graph: ChannelGraph, trained: Trained) -> list[str]:
    """Return the groups that training gave no importance: nothing that makes their channels has one."""
    return [group.name for group in graph if not _given_slots(group, trained)]


def training_means(graph: ChannelGraph, trained: Trained) -> Scores:
    """Return group -> the mean of what training gave to what makes each channel, (channels,).

    A group that training gave nothing is left out.
    """
    groups = [group for group in graph if _given_slots(group, trained)]
    total, count = (
        _summed_training(groups, given)
        for given in (trained, {name: np.ones(len(one)) for name, one in trained.items()})
    )
    return {group.name: total[group.name] / count[group.name] for group in groups}


def _given_slots(group: ChannelGroup, trained: Trained) -> list[Slot]:
    return [slot for slot in group.slots if slot.dim == 0 and slot.tensor in trained]


def _trained(model: nn.Module, graph: ChannelGraph, given: Given) -> Scores:
    return _summed_training(graph, given.trained or {})


def _summed_training(groups: Iterable[ChannelGroup], trained: Trained) -> Scores:
    found = {}
    for group in groups:
        total = np.zeros(group.channels)
        for slot in _given_slots(group, trained):
            importances = np.asarray(trained[slot.tensor], dtype=np.float64)
            total[slot.first : slot.first + len(slot.index)] += importances[slot.index].sum(axis=1)
        found[group.name] = total
    return found


def _l1(model: nn.Module, graph: ChannelGraph, given: Given) -> Scores:
    sizes = {name: size for name, size in _entries(model, torch.abs).items() if size.ndim > 1}
    return {group.name: _summed(group, sizes) for group in graph}


def _l2(model: nn.Module, graph: ChannelGraph, given: Given) -> Scores:
    squares = {name: square for name, square in _entries(model, torch.square).items() if square.ndim > 1}
    return {group.name: np.sqrt(_summed(group, squares)) for group in graph}


def _bn_scale(model: nn.Module, graph: ChannelGraph, given: Given) -> Scores:
    norms = [name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, _BatchNorm)]
    scales = {f"{name}.weight" for name in norms}
    sizes = {name: size for name, size in _entries(model, torch.abs).items() if name in scales}
    found = {group.name: _summed(group, sizes) for group in graph}
    known = [one for one in found.values() if one.any()]
    if not known:
        raise InputError("no BatchNorm scales the channels that can be cut", remedy="use another --criterion")
    usual = float(np.median(np.concatenate(known)))  # of a group without a BatchNorm nothing else is known
    return {name: one if one.any() else np.full_like(one, usual) for name, one in found.items()}


def _obs(model: nn.Module, graph: ChannelGraph, given: Given) -> Scores:
    return obs(model, graph, given.batches)


def _taylor(model: nn.Module, graph: ChannelGraph, given: Given) -> Scores:
    reading = {group.name: _reading(model, group) for group in graph}
    totals = {group.name: np.zeros(group.channels) for group in graph}
    count = 0
    for products in _gradient_times_weight(model, given.batches):
        count += 1
        for group in graph:
            totals[group.name] += np.abs(_summed(group, products, reading[group.name]))
    if not count:
        raise InputError("there is no batch to score channels on", remedy="give at least one batch")
    return {name: total / count for name, total in totals.items()}


def _reading(model: nn.Module, group: ChannelGroup) -> tuple[Slot, ...]:
    """Return the slots along which weights read the group's channels.

    All slots where there is none, as in attention: queries and keys are multiplied with each other.
    """
    found = []
    for slot in group.slots:
        module = model.get_submodule(slot.module)
        dims = [dim for kind, dim in _READS if isinstance(module, kind)]
        if slot.tensor.endswith("weight") and dims and slot.dim == dims[0]:
            found.append(slot)
    return tuple(found) or group.slots


def _gradient_times_weight(model: nn.Module, batches: Batches) -> Iterable[dict[str, Tensor]]:
    """Yield, for each batch, parameter -> gradient of its mean cross-entropy * parameter, entry by entry.

    The gradients are those of detached copies that share memory with the parameters, so that the model's own
    `.grad` and `requires_grad` are never touched. A parameter with two names is one copy under both.
    """
    copies: dict[int, Tensor] = {}
    named: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        named[name] = copies.setdefault(id(parameter), parameter.detach().requires_grad_())
    device = next(iter(named.values())).device
    for images, labels in batches:
        with torch.enable_grad():
            logits = torch.func.functional_call(model, named, (images.to(device),), tie_weights=False)
            loss = F.cross_entropy(logits, labels.to(device))
        gradients = torch.autograd.grad(loss, list(copies.values()), allow_unused=True)
        products = {
            id(own): (own.detach() * gradient).double()
            for own, gradient in zip(copies.values(), gradients, strict=True)
            if gradient is not None
        }
        yield {name: products[id(own)] for name, own in named.items() if id(own) in products}


def _entries(model: nn.Module, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return `of` every parameter in float64; a parameter with two names is one tensor under both."""
    made: dict[int, Tensor] = {}
    named: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in made:
            made[id(parameter)] = of(parameter.detach().double())
        named[name] = made[id(parameter)]
    return named


def _summed(group: ChannelGroup, entries: Mapping[str, Tensor], slots: tuple[Slot, ...] | None = None) -> np.ndarray:
    """Add up `entries` (parameter -> one number an entry) over each channel's slots; a shared parameter counts once."""
    total = np.zeros(group.channels)
    seen: set[tuple[int, int, int]] = set()
    for slot in slots if slots is not None else group.slots:
        tensor = entries.get(slot.tensor)
        if tensor is None or (id(tensor), slot.dim, slot.first) in seen:
            continue
        seen.add((id(tensor), slot.dim, slot.first))
        along = tensor.movedim(slot.dim, 0).reshape(tensor.shape[slot.dim], -1).sum(1).cpu().numpy()
        total[slot.first : slot.first + len(slot.index)] += along[slot.index].sum(axis=1)
    return total


def _per_group(score: _Score) -> _Score:
    """Return the criterion with each group's scores divided by their mean; a group of zeros stays as it is."""

    def relative(model: nn.Module, graph: ChannelGraph, given: Given) -> Scores:
        return {name: values / (values.mean() or 1.0) for name, values in score(model, graph, given).items()}

    return relative


CRITERIA: Mapping[str, Criterion] = {
    "taylor": Criterion(True, _taylor),
    "obs": Criterion(True, _obs),
    "l1": Criterion(False, _l1),
    "l2": Criterion(False, _l2),
    "bn_scale": Criterion(False, _bn_scale),
    "trained": Criterion(False, _trained, needs_training=True),
    "group_taylor": Criterion(True, _per_group(_taylor)),
    "group_l1": Criterion(False, _per_group(_l1)),
    "group_l2": Criterion(False, _per_group(_l2)),
}
