"""Sums of groups' widths: how much flows together in a concatenation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeprune.budget.elimination import Sum

_DIGITS = 6
"""Half a channel and a third are no whole numbers; sums that differ by less are one."""


class Sums:
    """Sums of groups' widths, each made of the largest one before it that is a part of it, a group at a time.

    Args:
        groups: group -> candidate widths.

    Attributes:
        made: the sums, each after those that it is the sum of.
    """

    def __init__(self, groups: Mapping[str, np.ndarray]) -> None:
        self._groups = groups
        self._known: dict[frozenset[tuple[str, float]], str] = {}
        self.made: list[Sum] = []
        self._above: dict[str, np.ndarray] = {}

    def of(self, parts: Mapping[str, float]) -> tuple[str, np.ndarray]:
        """Return the name of a sum of two groups or more, and its values above the least.

        Args:
            parts: group -> entries for each of its channels.
        """
        items = frozenset(parts.items())
        within = [known for known in self._known if known <= items]
        known = max(within, key=len, default=frozenset(sorted(items)[:1]))
        for item in sorted(items - known):
            known = self._added(known, item)
        name = self._known[known]
        return name, self._above[name]

    def _added(self, known: frozenset[tuple[str, float]], item: tuple[str, float]) -> frozenset[tuple[str, float]]:
        (group, _), others = item, known
        other = self._known.get(others) or next(iter(others))[0]
        one, two = self._values(others), self._values(frozenset([item]))
        values, places = np.unique((one[:, None] + two[None, :]).round(_DIGITS), return_inverse=True)
        found = others | {item}
        name = f"sum {len(self.made)}"
        self.made.append(Sum(name, (other, group), places.reshape(len(one), len(two))))
        self._above[name] = values
        self._known[found] = name
        return found

    def _values(self, items: frozenset[tuple[str, float]]) -> np.ndarray:
        if items in self._known:
            return self._above[self._known[items]]
        ((group, each),) = items
        return np.asarray(each * (self._groups[group] - self._groups[group][0]))
