"""Labels -> groups: connected labels are a channel, channels that reach into the same dimensions are a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.graph import balance
from edgeprune.graph.channels import ChannelGroup, Locked, Slot
from edgeprune.graph.labels import Solution
from edgeprune.graph.layers import Axis

Place = tuple[str, int]
"""A dimension of a tensor."""


@dataclass(frozen=True, eq=False)
class _Members:
    """The channels of one group: `parts` equal runs."""

    channels: np.ndarray
    parts: int = 1


class Assembly:
    """Groups, axes and locks that follow from a solution.

    Args:
        solution: the solved labels.
        places: every dimension of every parameter and buffer, in the order of execution, with its labels.
        outputs: weights of convolutions and linear layers -> their dimension of output channels.
        depthwise: the weights among them whose outputs are as many convolution groups.
        linear: the weights among them of linear layers.
    """

    def __init__(
        self,
        solution: Solution,
        places: Mapping[Place, np.ndarray],
        outputs: Mapping[str, int],
        depthwise: set[str],
        linear: set[str],
    ) -> None:
        self.solution = solution
        self.outputs = outputs
        self.depthwise = depthwise
        self.linear = linear
        self.places = {place: solution.component[ids] for place, ids in places.items()}
        self.reasons = [*solution.reasons]
        self.locked = solution.locked.copy()
        self._members = self._find_members()
        self._group_of = np.full(self._count, -1)
        self._row_of = np.zeros(self._count, dtype=np.int64)
        for which, members in enumerate(self._members):
            self._group_of[members.channels] = which
            self._row_of[members.channels] = np.arange(len(members.channels))
        self.groups = self._find_groups()
        self._names = list(self.groups)
        self.axes = {place: axis for place, channels in self.places.items() if (axis := self._axis_of(channels)).parts}

    @property
    def _count(self) -> int:
        return int(self.solution.component.max(initial=-1)) + 1

    def axis(self, ids: np.ndarray) -> Axis:
        """Return how a dimension with these labels is made up."""
        return self._axis_of(self.solution.component[ids])

    def locks(self) -> tuple[Locked, ...]:
        """Return the output channels that stay, by reason."""
        modules: dict[str, dict[str, int]] = {}
        for tensor, dim in self.outputs.items():
            channels = self.places[tensor, dim]
            found, numbers = np.unique(self.locked[channels[self._group_of[channels] < 0]], return_counts=True)
            for which, number in zip(found.tolist(), numbers.tolist(), strict=True):
                reason = self.reasons[which] if which >= 0 else "nothing else depends on it"
                counts = modules.setdefault(reason, {})
                name = tensor.rpartition(".")[0]
                counts[name] = counts.get(name, 0) + number
        return tuple(Locked(tuple(counts), sum(counts.values()), reason) for reason, counts in modules.items())

    def _find_members(self) -> list[_Members]:
        """Return the channels of each group, groups in the order of execution."""
        signature, shared = self._signatures()
        open_ones = shared & (self.locked < 0)
        bound = balance.equations(self.solution.balances, open_ones)
        salts = np.random.default_rng(1).integers(1, 2**63, bound.shape[0], dtype=np.int64)
        signature += (bound.T @ salts).view(np.uint64)
        runs = _same(signature, np.flatnonzero(open_ones))
        coefficients = bound[:, [run[0] for run in runs]].toarray()
        free = [run for which, run in enumerate(runs) if not coefficients[:, which].any()]
        members = [_Members(run) for run in free if len(run) > 1]
        self._lock((run for run in free if len(run) == 1), "all of them are one channel")
        for length, counts in balance.parts(np.array([len(run) for run in runs]), coefficients):
            taken = [run[: count * length] for run, count in zip(runs, counts.tolist(), strict=True) if count]
            members.append(_Members(np.concatenate(taken), int(counts.sum())))
        inside = np.concatenate([one.channels for one in members] or [np.zeros(0, np.int64)])
        left = np.setdiff1d(np.flatnonzero(open_ones), inside)
        self._lock([left], "the code takes equal parts, which these channels can't make up")
        return sorted(members, key=lambda one: int(one.channels[0]))

    def _lock(self, runs: Iterable[np.ndarray], reason: str) -> None:
        for run in runs:
            self.locked[run[self.locked[run] < 0]] = len(self.reasons)
        self.reasons.append(reason)

    def _signatures(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each channel a hash of the (place, entries) it reaches into, and whether there are several."""
        signature = np.zeros(self._count, dtype=np.uint64)
        place = np.full(self._count, -1)
        shared = np.zeros(self._count, dtype=bool)
        salts = np.random.default_rng(0).integers(1, 2**63, len(self.places), dtype=np.uint64)
        for which, (channels, salt) in enumerate(zip(self.places.values(), salts, strict=True)):
            np.add.at(signature, channels, salt)
            shared[channels] |= place[channels] >= 0
            place[channels] = which
        return signature, shared

    def _find_groups(self) -> dict[str, ChannelGroup]:
        slots: list[list[Slot]] = [[] for _ in self._members]
        for (tensor, dim), channels in self.places.items():
            owners = self._group_of[channels]
            for which, _ in _counts(owners):
                entries = np.flatnonzero(owners == which)
                slots[which] += _slots(tensor, dim, entries, self._row_of[channels[entries]])
        groups: dict[str, ChannelGroup] = {}
        for members, found in zip(self._members, slots, strict=True):
            producers = list(dict.fromkeys(slot.module for slot in found if self._produces(slot)))
            name = _unique(next(iter([*producers, found[0].module, found[0].tensor])) or found[0].tensor, groups)
            groups[name] = ChannelGroup(
                name=name,
                channels=len(members.channels),
                slots=tuple(found),
                kind=self._kind(members.channels, found),
                exact=not np.isin(members.channels, self.solution.inexact).any(),
                parts=members.parts,
            )
        return groups

    def _kind(self, channels: np.ndarray, slots: Sequence[Slot]) -> str:
        for role, members in self.solution.roles.items():
            if np.isin(channels, members).any():
                return role
        if any(slot.tensor in self.depthwise for slot in slots):
            return "expansion"
        weights = {slot.tensor for slot in slots if slot.tensor in self.outputs}
        return "mlp" if weights <= self.linear else "inner"

    def _produces(self, slot: Slot) -> bool:
        """Whether the slot is the output dimension of a weight that mixes channels."""
        return self.outputs.get(slot.tensor) == slot.dim and slot.tensor not in self.depthwise

    def _axis_of(self, channels: np.ndarray) -> Axis:
        counts = _counts(self._group_of[channels])
        parts: dict[str, float] = {}
        for which, count in counts:
            size = len(self._members[which].channels)
            parts[self._names[which]] = count // size if count % size == 0 else count / size
        return Axis(len(channels) - sum(count for _, count in counts), parts)


def _counts(owners: np.ndarray) -> list[tuple[int, int]]:
    """Return which groups own entries, and how many each; nearly always there is one, or none."""
    if not len(owners) or (owners == owners[0]).all():
        return [(int(owners[0]), len(owners))] if len(owners) and owners[0] >= 0 else []
    found, counts = np.unique(owners[owners >= 0], return_counts=True)
    return list(zip(found.tolist(), counts.tolist(), strict=True))


def _slots(tensor: str, dim: int, entries: np.ndarray, rows: np.ndarray) -> list[Slot]:
    """Return the slots of one group in one dimension: one for each run of channels with equally many entries."""
    if (np.diff(rows) == 1).all():  # one entry a channel, in order: nearly always
        return [Slot(tensor, dim, entries[:, None], first=int(rows[0]))]
    entries = entries[np.lexsort((entries, rows))]
    found, counts = np.unique(rows, return_counts=True)
    breaks = np.flatnonzero((np.diff(found) != 1) | (np.diff(counts) != 0)) + 1
    starts = np.concatenate([[0], np.cumsum(counts)])
    slots = []
    for run in np.split(np.arange(len(found)), breaks):
        index = entries[starts[run[0]] : starts[run[-1] + 1]].reshape(len(run), -1)
        slots.append(Slot(tensor, dim, index, first=int(found[run[0]])))
    return slots


def _same(signature: np.ndarray, members: np.ndarray) -> list[np.ndarray]:
    """Split `members` into those of equal signature, in the order of their first member."""
    _, first, inverse = np.unique(signature[members], return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    runs = np.split(members[order], np.flatnonzero(np.diff(inverse[order])) + 1)
    return [runs[which] for which in np.argsort(first)] if len(members) else []


def _unique(name: str, taken: Iterable[str] | Sequence[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}#{number}"
    return found
