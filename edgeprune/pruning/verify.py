"""Try a graph's groups on the network itself, and lock those that break it.

Sizes written into a network's Python code (`x.view(b, 8, 64)`) are not in the traced graph. So a random half of every
group is cut, the compact network is run against the masked twin, and where the two differ the groups that are to blame
are found by bisection. The same is then tried with all groups removed that may go as a whole.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgeprune.errors import EdgePruneError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.copies import copied
from edgeprune.graph.plan import WidthPlan
from edgeprune.pruning.slim import TOLERANCE, cut, run_on_examples, slim_error


def verified(model: nn.Module, graph: ChannelGraph, *, seed: int = 0) -> ChannelGraph:
    """Return `graph` with those groups locked that can't be cut, with the line of code as the reason.

    The network is tried with random values in place of constant tensors, because a new network's zeros (a last layer,
    the scales of residual branches) would hide what goes wrong.

    Args:
        model: the network, in eval mode; left alone.
        graph: from `trace`, of the same network.
        seed: of what is cut, and of the values.
    """
    lively = enlivened(model, seed)
    trial = _Trial(lively, graph, _halves(graph, seed))
    sound: list[str] = []
    for exact in (True, False):
        names = [group.name for group in graph if group.exact == exact]
        for name, reason in trial.broken(names, sound).items():
            names.remove(name)
            graph = graph.lock([name], reason)
        sound += names
    removable = [group.name for group in graph if group.removable]
    removal = _Trial(lively, graph, {name: np.zeros(0, np.int64) for name in removable})
    return graph.keep_some(removal.broken(removable, []))


class _Trial:
    """Cuts of some groups to what `kept` leaves of them."""

    def __init__(self, model: nn.Module, graph: ChannelGraph, kept: Mapping[str, np.ndarray]) -> None:
        self.model = model
        self.graph = graph
        self.kept = kept

    def broken(self, names: Sequence[str], sound: Sequence[str]) -> dict[str, str]:
        """Return those of `names` that break the network when they are cut with `sound` and the rest, with reasons.

        The module that crashed says which groups to look at first, and which groups of its likes will crash as well.
        """
        found: dict[str, str] = {}
        while left := [name for name in names if name not in found]:
            failure = self._failure([*sound, *left])
            if failure is None:
                break
            suspects = [name for name in left if self._role(name, failure.module)]
            guilty = self._bisect(suspects, sound) or self._bisect(left, sound)
            found |= guilty
            found |= {twin: reason for name, reason in guilty.items() for twin in self._twins(name, failure.module)}
            if not guilty:
                return found | dict.fromkeys(left, failure.reason)
        return {name: reason for name, reason in found.items() if name in names}

    def _bisect(self, names: Sequence[str], sound: Sequence[str]) -> dict[str, str]:
        """Return a smallest set of `names` without which the rest of them, cut together with `sound`, does no harm."""
        failure = self._failure([*sound, *names]) if names else None
        if failure is None:
            return {}
        if len(names) == 1:
            return {names[0]: failure.reason}
        middle = len(names) // 2
        found = self._bisect(names[:middle], sound)
        sound = [*sound, *(name for name in names[:middle] if name not in found)]
        return found | self._bisect(names[middle:], sound)

    def _failure(self, names: Sequence[str]) -> _Failure | None:
        plan = WidthPlan(self.graph, {name: self.kept[name] for name in names})
        small = None
        try:
            small = cut(self.model, plan.cuts)
            if not plan.exact:
                run_on_examples(small, plan, torch.float32)
                return None
            error = slim_error(self.model, plan, small)
        except EdgePruneError as failed:
            return _failure_of(failed, small)
        if error <= TOLERANCE:
            return None
        return _Failure(f"without its channels the outputs differ from those with them zeroed, by {error:.1g}")

    def _role(self, name: str, module: str | None) -> frozenset[tuple[str, int]]:
        """Return which dimensions of which tensors inside `module` a group is."""
        if module is None:
            return frozenset()
        prefix = f"{module}." if module else ""
        slots = self.graph.groups[name].slots
        return frozenset((slot.tensor[len(prefix) :], slot.dim) for slot in slots if slot.tensor.startswith(prefix))

    def _twins(self, name: str, module: str | None) -> list[str]:
        """Return the groups that are in other modules of the same class what group `name` is in `module`."""
        if module is None or not (role := self._role(name, module)):
            return []
        kind = type(self.model.get_submodule(module))
        if kind.__module__.startswith("torch."):
            return []  # any convolution may have failed for reasons of its own
        paths = [path for path, other in self.model.named_modules() if type(other) is kind]
        return [other for path in paths for other in self.graph.groups if self._role(other, path) == role]


@dataclass(frozen=True)
class _Failure:
    """Why a cut network was wrong, and the module that crashed, if one did."""

    reason: str
    module: str | None = None


def _halves(graph: ChannelGraph, seed: int) -> Mapping[str, np.ndarray]:
    """Return a random half of every group's channels."""
    random = np.random.default_rng(seed)
    scores = {group.name: random.random(group.channels) for group in graph}
    widths = {group.name: max(1, group.channels // group.parts // 2) * group.parts for group in graph}
    return WidthPlan.from_scores(graph, scores, widths).kept


def _failure_of(error: EdgePruneError, small: nn.Module | None) -> _Failure:
    """Return the line of the network's code that failed, and what it said."""
    cause = error.__cause__
    if cause is None:
        return _Failure(error.message)
    paths = {id(module): path for path, module in small.named_modules()} if small is not None else {}
    module = None
    for frame, _ in traceback.walk_tb(cause.__traceback__):
        module = paths.get(id(frame.f_locals.get("self")), module)
    own = tuple(f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, Path(__file__).parents[1]))
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not frame.filename.startswith(own)]
    said = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    if frames:
        said = f"{'/'.join(Path(frames[-1].filename).parts[-3:])}:{frames[-1].lineno}: {frames[-1].line}: {said}"
    return _Failure(said, module)


def enlivened(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of `model` with random values in its constant tensors."""
    generator = torch.Generator().manual_seed(seed)
    replaced: dict[str, torch.Tensor] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        data = tensor.detach()
        if not data.is_floating_point() or data.numel() < 2 or (data != data.flatten()[0]).any():
            continue
        if data.ndim > 1:
            new = torch.randn(data.shape, generator=generator) / max(1, data[0].numel()) ** 0.5
        else:
            new = torch.rand(data.shape, generator=generator) + 0.5
        new = new.to(data)
        replaced[name] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
    return copied(model, replaced)
