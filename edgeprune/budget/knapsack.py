"""The least of an objective under one limit, exactly: Lagrangian bounds, and the plans that they do not rule out.

With a price (a Lagrange multiplier) on what is limited, the minimum of objective + price * (amount - limit) over all
plans is a lower bound for every plan within the limit. One elimination gives this bound, and one for each entry of
every table. The price that gives the greatest
bound is that of the linear relaxation. Widths whose bound is over what the best plan so far loses are left out. Then
partial plans are put together, in the order of elimination, and dropped
where their bound at one of several prices is over a threshold, or where another one of the same entry loses and takes
no more. If a plan is left within the threshold, the best of these is the best of all; if none is, there is none, and
the threshold is raised.

Compared with branch and bound by HiGHS: for ResNet-152 at 30 % of its latency the relaxation is a mixture of two plans
with other widths of a trunk, and branch and bound, which does not know that the trunk's width decides about all of its
blocks, ended after 20 s with a gap of 3.3 % (`tools/bench/solving.py resnet152`, before and after). For DenseNet-201 at
30 % it had 1.9 % after 20 s: relaxed, what flows into one layer need not be what flows into the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeprune.budget.elimination import Elimination, Tables
from edgeprune.budget.programme import ROUNDING

_PRICES = (0.6, 0.75, 0.85, 0.92, 0.96, 0.98, 1.0, 1.02, 1.04, 1.08, 1.15, 1.3, 1.6)
"""Partial plans are bounded at these multiples of the best price."""

_LABELS_MAX = 200_000
"""So many partial plans of one table are kept, at most ..."""

_JOINED_MAX = 5_000_000
"""... of so many that are looked at."""

_REACH = 2.5e-4
"""The first threshold is this share above the bound ..."""

_GROWTH = 2.0
"""... and the next ones so many times as far above it, ..."""

_SLOW_GROWTH = 1.25
_MANY = 3_000
_HARDLY_MORE = 1.1
"""... or a little farther only, once there were so many partial plans, and by this factor more than the time before."""

_PRICES_TRIED = 60
_NOTHING = 1e-3
"""Gaps of objectives under this are taken relative to it."""


class _TooManyLabelsError(Exception):
    """There are too many partial plans to keep."""


class Found(NamedTuple):
    """A plan.

    Attributes:
        places: group -> the number of its width.
        gap: distance of the objective to the least that could not be ruled out, as a share of the objective.
    """

    places: dict[str, int]
    gap: float


class _Relaxed(NamedTuple):
    """The greatest bound, the price that gives it, and the best plan within the limit that was met on the way."""

    bound: float
    price: float
    places: dict[str, int]


class Knapsack:
    """A programme with one limit.

    Args:
        elimination: of its groups.
        objective: a coefficient for every variable of the programme.
        each: likewise, of what is limited.
        most: there may be of it.
    """

    def __init__(self, elimination: Elimination, objective: np.ndarray, each: np.ndarray, most: float) -> None:
        self._elimination = elimination
        self._objective, self._each = objective, each
        self._lost = elimination.tables(objective)
        self._taken = elimination.tables(each)
        self._most = most + ROUNDING * abs(most)

    def least(self, gap: float, deadline: float = math.inf) -> Found | None:
        """Return the plan of least objective within the limit, or one within `gap` of it; None if there is none.

        Where the partial plans become too many, or after the deadline (of `time.perf_counter`), it is the best plan so
        far, with a larger gap.
        """
        relaxed = self._relaxed()
        if relaxed is None:
            return None
        proven = gap_of(self._lost_by(relaxed.places), relaxed.bound)
        if proven <= gap:
            return Found(relaxed.places, proven)
        kept = self._kept(relaxed)
        rest = Knapsack(self._elimination.restricted(kept), self._objective, self._each, self._most)
        start = {name: int(np.searchsorted(numbers, relaxed.places[name])) for name, numbers in kept.items()}
        found = rest._searched(relaxed._replace(places=start), gap, deadline)
        return Found({name: int(numbers[found.places[name]]) for name, numbers in kept.items()}, found.gap)

    def _kept(self, relaxed: _Relaxed) -> dict[str, np.ndarray]:
        """Return group -> the numbers of the widths that a plan may have which loses no more than the one at hand."""
        elimination = self._elimination
        least = elimination.downward(*elimination.upward(_priced(self._lost, self._taken, relaxed.price)))
        limit = self._lost_by(relaxed.places) + relaxed.price * self._most
        limit += ROUNDING * abs(limit)
        return {
            name: np.flatnonzero(least[name].reshape(len(least[name]), -1).min(1) <= limit)
            for name in elimination.order[:-1]
            if name not in elimination.sums
        }

    def _searched(self, relaxed: _Relaxed, gap: float, deadline: float) -> Found:
        """Return what `least` does, from the relaxation on."""
        found, threshold, reach = relaxed.places, relaxed.bound, _REACH
        bounds = _Bounds(self._elimination, self._lost, self._taken, relaxed.price, self._most)
        labels = 0
        while gap_of(self._lost_by(found), threshold) > gap and time.perf_counter() < deadline:
            try:
                wanted = min(relaxed.bound + reach * max(relaxed.bound, 1.0), self._lost_by(found))
                frontier = bounds.frontier(wanted)
            except _TooManyLabelsError:
                break
            threshold = wanted
            found = min(found, frontier.best(self._most) or found, key=self._lost_by)
            reach *= _GROWTH if frontier.labels < max(_MANY, _HARDLY_MORE * labels) else _SLOW_GROWTH
            labels = frontier.labels
        return Found(found, gap_of(self._lost_by(found), threshold))

    def _relaxed(self) -> _Relaxed | None:
        """Return the greatest bound over all prices, by the secant of the two plans on either side of the limit.

        Returns:
            None where no plan is within the limit.
        """
        elimination = self._elimination
        least = elimination.best(elimination.upward(self._lost)[0])
        over = self._amounts(least)
        if over[1] <= self._most:
            return _Relaxed(over[0], 0.0, least)
        within = elimination.best(elimination.upward(self._taken)[0])
        under = self._amounts(within)
        if under[1] > self._most:
            return None
        bound, best_price = over[0], 0.0
        for _ in range(_PRICES_TRIED):
            price = (under[0] - over[0]) / (over[1] - under[1])
            sums, messages = elimination.upward(_priced(self._lost, self._taken, price))
            total = float(messages[elimination.order[-1]])
            if not best_price or total - price * self._most > bound:
                bound, best_price = max(bound, total - price * self._most), price
            if total >= under[0] + price * under[1] - ROUNDING * abs(total):
                break
            places = elimination.best(sums)
            amounts = self._amounts(places)
            if amounts[1] <= self._most:
                within, under = places, amounts
            else:
                over = amounts
        return _Relaxed(bound, best_price, within)

    def _amounts(self, places: Mapping[str, int]) -> tuple[float, float]:
        """Return what a plan loses, and what it takes of what is limited."""
        return self._lost_by(places), self._elimination.total(self._taken, places)

    def _lost_by(self, places: Mapping[str, int]) -> float:
        return self._elimination.total(self._lost, places)


@dataclass(frozen=True, eq=False)
class _Labels:
    """Partial plans of all that was eliminated into a group's message, those of one entry side by side.

    Attributes:
        starts: entry of the message -> its first label, and in the end how many there are.
        lost: of each.
        taken: of each.
        widths: the number of the group's own width, in each.
        parts: for each child of the group, the number of the child's label that is in each.
    """

    starts: np.ndarray
    lost: np.ndarray
    taken: np.ndarray
    widths: np.ndarray
    parts: Sequence[np.ndarray]


class _Frontier:
    """All non-dominated plans whose bound is within a threshold.

    Args:
        elimination: of the groups.
        of: group -> its labels.
        labels: how many there were in the largest table.
    """

    def __init__(self, elimination: Elimination, of: Mapping[str, _Labels], labels: int) -> None:
        self._elimination = elimination
        self._of = of
        self.labels = labels

    def best(self, most: float) -> dict[str, int] | None:
        """Return the number of each group's width in the plan that loses least and takes `most` at most."""
        *groups, last = self._elimination.order
        within = np.flatnonzero(self._of[last].taken <= most)
        if not len(within):
            return None
        label = {last: int(within[np.argmin(self._of[last].lost[within])])}
        for name in (last, *reversed(groups)):
            children = self._elimination.children[name]
            label |= {one: int(part[label[name]]) for one, part in zip(children, self._of[name].parts, strict=True)}
        return {name: int(self._of[name].widths[label[name]]) for name in groups}


class _Bounds:
    """Bounds of partial plans, at several prices."""

    def __init__(self, elimination: Elimination, lost: Tables, taken: Tables, price: float, most: float) -> None:
        self._elimination = elimination
        self._lost, self._taken, self._most = lost, taken, most
        self._prices = price * np.array(_PRICES)
        # Both (prices, entries).
        self._least = {name: np.empty((len(_PRICES), math.prod(elimination.shapes[name]))) for name in lost}
        self._messages = {name: np.empty((len(_PRICES), math.prod(elimination.message_shape(name)))) for name in lost}
        for at, one in enumerate(self._prices):
            sums, messages = elimination.upward(_priced(lost, taken, float(one)))
            least = elimination.downward(sums, messages)
            for name in lost:
                self._least[name][at] = least[name].ravel()
                self._messages[name][at] = messages[name].ravel()

    def frontier(self, threshold: float) -> _Frontier:
        """Return what is not ruled out within a threshold.

        Raises:
            _TooManyLabelsError: that is too much.
        """
        found: dict[str, _Labels] = {}
        most = 0
        for name in self._elimination.order:
            found[name], count = self._eliminated(
                name, found, threshold + self._prices * self._most + ROUNDING * abs(threshold)
            )
            most = max(most, count)
        return _Frontier(self._elimination, found, most)

    def _eliminated(self, name: str, found: Mapping[str, _Labels], limits: np.ndarray) -> tuple[_Labels, int]:
        """Join what a group's children have left, entry by entry of its table, and eliminate the group.

        Args:
            name: the group.
            found: labels of the groups that were eliminated before.
            limits: the most that objective and price may be together, at each price.

        Returns:
            The labels of its message, and how many there were on the way.
        """
        shape = self._elimination.shapes[name]
        lost, taken = self._lost[name].ravel(), self._taken[name].ravel()
        rest = self._least[name] - (lost + self._prices[:, None] * taken)  # what is still to come, at least
        entry = np.flatnonzero((self._least[name] <= limits[:, None]).all(0))
        lost, taken = lost[entry], taken[entry]
        parts: list[np.ndarray] = []
        count = len(entry)
        for child in self._elimination.children[name]:
            labels = found[child]
            at = self._elimination.laid(child, np.arange(len(labels.starts) - 1))
            at = np.broadcast_to(at, shape).ravel()
            rest = rest - self._messages[child][:, at]
            first, last = labels.starts[at[entry]], labels.starts[at[entry] + 1]
            row, part = _ranges(first, last)
            entry, lost, taken = entry[row], lost[row] + labels.lost[part], taken[row] + labels.taken[part]
            parts = [*(one[row] for one in parts), part]
            kept = np.arange(len(entry))
            for price, left, limit in zip(self._prices, rest, limits, strict=True):
                kept = kept[lost[kept] + price * taken[kept] + left[entry[kept]] <= limit]
            kept = kept[_undominated(entry[kept], lost[kept], taken[kept])]
            entry, lost, taken, parts = entry[kept], lost[kept], taken[kept], [one[kept] for one in parts]
            count = max(count, len(entry))
            if len(entry) > _LABELS_MAX:
                raise _TooManyLabelsError
        width, into = np.divmod(entry, math.prod(shape[1:]))
        into = entry if name in self._elimination.sums else into
        kept = _undominated(into, lost, taken)
        starts = np.searchsorted(into[kept], np.arange(math.prod(self._elimination.message_shape(name)) + 1))
        return _Labels(starts, lost[kept], taken[kept], width[kept], [one[kept] for one in parts]), count


def _priced(lost: Tables, taken: Tables, price: float) -> Tables:
    return {name: table + price * taken[name] for name, table in lost.items()}


def gap_of(lost: float, bound: float) -> float:
    """Return how far a plan may be from the best, as a share of what it loses, by a bound of what any loses."""
    gap = (lost - bound) / max(abs(lost), _NOTHING)
    return gap if gap > ROUNDING else 0.0


def _ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all numbers from each first to before each last, and before them which range each is of.

    Raises:
        _TooManyLabelsError: there are too many.
    """
    counts = last - first
    if counts.sum() > _JOINED_MAX:
        raise _TooManyLabelsError
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) + np.repeat(first - (np.cumsum(counts) - counts), counts)


def _undominated(entry: np.ndarray, lost: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return the labels that no other one of the same entry is as good as, ordered by entry and by what they take."""
    order = np.lexsort((lost, taken, entry))
    rank = np.unique(lost, return_inverse=True)[1]
    falling = rank[order] - entry[order] * (len(order) + 1)  # so that each entry begins under all before it
    least = np.minimum.accumulate(falling)
    new = np.ones(len(order), dtype=bool)
    new[1:] = falling[1:] < least[:-1]
    return np.asarray(order[new])
