"""Labels: which entries of which tensors are one channel.

Every entry of a dimension that might be a channel carries an integer label. A tensor's labels are a few `Factor`s:
arrays of labels over some of its dimensions. One dimension is the rule; several dimensions share one factor after a
reshape has split channels (channel shuffle, attention heads), and a permute and a flatten put them together again.
A dimension in no factor is not a channel: its size can't change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class Factor:
    """Labels over the dimensions `dims` (ascending); `ids` has one axis a dimension."""

    dims: tuple[int, ...]
    ids: np.ndarray


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor: its shape, and the labels of its channels; `tensor` names it where it is a parameter or a buffer."""

    shape: tuple[int, ...]
    factors: tuple[Factor, ...] = ()
    tensor: str | None = None

    def factor_at(self, dim: int) -> Factor | None:
        """Return the factor that covers dimension `dim`, if any."""
        return next((factor for factor in self.factors if dim in factor.dims), None)

    def without(self, dims: Iterable[int]) -> tuple[Factor, ...]:
        """Return the factors that cover none of `dims`."""
        gone = set(dims)
        return tuple(factor for factor in self.factors if not gone & set(factor.dims))


@dataclass(frozen=True, eq=False)
class Solution:
    """What the labels came to.

    Attributes:
        component: the channel that each label belongs to.
        locked: for each channel, which of `reasons` is the first why it must stay; -1 where there is none.
        reasons: in words.
        inexact: channels whose removal differs from zeroing them.
        roles: what happens to channels on the way, such as `stream` (something is added to them) -> those channels.
        balances: runs of channels; from each run of one entry equally many must go.
    """

    component: np.ndarray
    locked: np.ndarray
    reasons: tuple[str, ...]
    inexact: np.ndarray
    roles: dict[str, np.ndarray]
    balances: tuple[tuple[np.ndarray, ...], ...]


class Labels:
    """The labels handed out so far, the equalities between them, and those that are locked."""

    def __init__(self) -> None:
        self.count = 0
        self._equal: list[tuple[np.ndarray, np.ndarray]] = []
        self._locks: list[tuple[np.ndarray, str]] = []
        self._inexact: list[np.ndarray] = []
        self._balances: list[tuple[np.ndarray, ...]] = []
        self._grids: list[np.ndarray] = []
        self._roles: dict[str, list[np.ndarray]] = {}
        self._sized: dict[str, list[tuple[int, np.ndarray | None]]] = {}

    def fresh(self, shape: Sequence[int] | int) -> np.ndarray:
        """Return an array of labels that nobody has."""
        size = int(np.prod(shape))
        ids = np.arange(self.count, self.count + size).reshape(shape)
        self.count += size
        return ids

    def tie(self, one: np.ndarray, other: np.ndarray) -> None:
        """Make labels equal, entry by entry, after broadcasting."""
        if one is not other:
            one, other = np.broadcast_arrays(one, other)
            self._equal.append((one.ravel(), other.ravel()))

    def tie_along(self, ids: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        """Make all labels along `axes` equal; return the labels with these axes dropped."""
        for axis in sorted(axes, reverse=True):
            first = np.take(ids, [0], axis=axis)
            self.tie(first, ids)
            ids = first.squeeze(axis)
        return ids

    def lock(self, ids: np.ndarray, reason: str) -> None:
        """Say that these channels must stay."""
        self._locks.append((ids.ravel(), reason))

    def lock_value(self, value: Value, reason: str) -> None:
        """Lock all channels of a tensor."""
        for factor in value.factors:
            self.lock(factor.ids, reason)

    def mark_inexact(self, ids: np.ndarray) -> None:
        """Say that the network without one of these channels differs from the network with that channel zeroed."""
        self._inexact.append(ids.ravel())

    def note(self, role: str, factors: Iterable[Factor]) -> None:
        """Note what happens to channels, for a person to read."""
        self._roles.setdefault(role, []).extend(factor.ids.ravel() for factor in factors)

    def balance(self, runs: Sequence[np.ndarray]) -> None:
        """Say that equally many entries must go from each run: the code takes them as equal parts."""
        if len(runs) > 1:
            self._balances.append(tuple(run.ravel() for run in runs))

    def grid(self, ids: np.ndarray) -> None:
        """Say that a reshape has laid out channels as this array, so that what stays must be a grid too."""
        self._grids.append(ids)

    def sized(self, key: str, each: int, ids: np.ndarray | None) -> None:
        """Say that attribute `key` is `each` times the number of these channels; None is a size that can't change."""
        self._sized.setdefault(key, []).append((each, ids))

    def attributes(self) -> dict[str, tuple[int, np.ndarray]]:
        """Return attributes and channels: each is so many times the number of these."""
        return {
            key: (each, ids)
            for key, uses in self._sized.items()
            for each, ids in uses[:1]
            if ids is not None and all(other is not None for _, other in uses)
        }

    def _agree(self) -> None:
        """See to it that all dimensions whose size is one attribute keep the same size."""
        for key, uses in self._sized.items():
            known = [(each, ids) for each, ids in uses if ids is not None]
            if len(known) < len(uses):
                for _, ids in known:
                    self.lock(ids, f"its size is `{key}`, which is also the size of something that stays")
            else:
                self.balance([np.tile(ids, each) for each, ids in known])

    def solve(self) -> Solution:
        """Return the connected components of the equalities, and what holds for them."""
        self._agree()
        rows = np.concatenate([pair[0] for pair in self._equal] or [np.zeros(0, np.int64)])
        columns = np.concatenate([pair[1] for pair in self._equal] or [np.zeros(0, np.int64)])
        graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(self.count, self.count))
        _, component = connected_components(graph, directed=False)
        count = int(component.max(initial=-1)) + 1
        locked = np.full(count, -1)
        for which in reversed(range(len(self._locks))):
            locked[component[self._locks[which][0]]] = which
        inexact = np.unique(component[np.concatenate(self._inexact or [np.zeros(0, np.int64)])])
        roles = {
            role: np.unique(component[np.concatenate([*ids, np.zeros(0, np.int64)])])
            for role, ids in self._roles.items()
        }
        balances = [tuple(component[run] for run in runs) for runs in self._balances]
        balances += [runs for ids in self._grids if len(runs := _uneven_runs(component[ids])) > 1]
        reasons = tuple(reason for _, reason in self._locks)
        return Solution(component, locked, reasons, inexact, roles, tuple(balances))


def _uneven_runs(components: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the runs of a grid that must lose equally many; none where whole rows, or whole columns, are one channel.

    The shortest axis is taken as the one whose length is written in the code (3 of query, key and value, 2 halves).
    """
    free = [axis for axis in range(components.ndim) if (components != np.take(components, [0], axis=axis)).any()]
    if len(free) < 2:
        return ()
    shortest = min(free, key=lambda axis: components.shape[axis])
    return tuple(run.ravel() for run in np.moveaxis(components, shortest, 0))


def reshape_factors(
    value: Value, shape: Sequence[int], labels: Labels, reason: str = "reshape over two channel dimensions"
) -> tuple[Factor, ...]:
    """Return the factors of `value` after a reshape to `shape`; what can't be followed is locked."""
    factors: list[Factor] = []
    for old_dims, new_dims in _blocks(value.shape, shape):
        inside = [factor for factor in value.factors if set(factor.dims) & set(old_dims)]
        if len(inside) > 1:
            for factor in inside:
                if factor.ids.size == 1:
                    labels.lock(factor.ids, reason)
            inside = [factor for factor in inside if factor.ids.size > 1]
        if not inside:
            continue
        if len(inside) > 1 or not set(inside[0].dims) <= set(old_dims):
            for factor in inside:
                labels.lock(factor.ids, reason)
            continue
        factor = inside[0]
        spread = [1] * len(old_dims)
        for dim in factor.dims:
            spread[old_dims.index(dim)] = value.shape[dim]
        full = np.broadcast_to(factor.ids.reshape(spread), [value.shape[dim] for dim in old_dims])
        found = _smallest(full.reshape([shape[dim] for dim in new_dims]), new_dims)
        for split in found:
            if len(split.dims) > 1:
                labels.grid(split.ids)
        if not found:
            labels.lock(factor.ids, reason)
        factors += found
    return tuple(factors)


def _blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Split two shapes of one size into the shortest runs of dimensions with equal products."""
    blocks = []
    i = j = 0
    while i < len(old) or j < len(new):
        left: list[int] = []
        right: list[int] = []
        size_left = size_right = 1
        while not size_left == size_right > 1:
            if i < len(old) and (size_left <= size_right or j == len(new)):
                size_left *= old[i]
                left.append(i)
                i += 1
            elif j < len(new):
                size_right *= new[j]
                right.append(j)
                j += 1
            else:
                break
        blocks.append((left, right))
    return blocks


def _smallest(ids: np.ndarray, dims: Sequence[int]) -> list[Factor]:
    """Drop the dimensions along which the labels do not change."""
    keep = [axis for axis in range(ids.ndim) if not (ids == np.take(ids, [0], axis=axis)).all()]
    if not keep:
        keep = [axis for axis in range(ids.ndim) if ids.shape[axis] > 1][:1] or list(range(ids.ndim))[-1:]
    if not keep:
        return []
    index = tuple(slice(None) if axis in keep else 0 for axis in range(ids.ndim))
    return [Factor(tuple(dims[axis] for axis in keep), ids[index])]
