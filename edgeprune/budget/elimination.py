"""Least sums over the groups' widths, by eliminating one group after the other (bucket elimination, Dechter 1999).

What a plan loses and takes is a sum of terms of a few groups each. To eliminate a group, the terms that depend on it
are added up into one table over its widths and those of its neighbours, and the minimum is taken over its own widths.
What is left, its message, is added to the table of that neighbour which is eliminated next. In a network few groups
stand between one part and the rest (a trunk's width between its blocks), so the tables stay small, and the least of the
whole sum is found exactly, in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_LAST = ""
"""The name of the last table, of no group: what is left of every part of the network comes together in it."""

Tables = Mapping[str, np.ndarray]
"""Group -> one number for each entry of its table."""


@dataclass(frozen=True, eq=False)
class Factor:
    """What depends on the widths of some groups together.

    Attributes:
        names: the groups.
        columns: at [i, j, ...] the variable of the programme that is one where they have their widths number i, j, ...
    """

    names: tuple[str, ...]
    columns: np.ndarray


class Elimination:
    """An order in which groups are eliminated, and the tables that come of it.

    Args:
        sizes: group -> how many widths it may have.
        factors: what depends on which groups.

    Attributes:
        order: the groups, in the order in which they are eliminated; in the end the last table, of no group.
        scopes: group -> itself and the groups that its table is over.
        shapes: group -> their numbers of widths.
        parents: group -> the group whose table its message goes to.
        children: the other way round.
    """

    def __init__(self, sizes: Mapping[str, int], factors: Sequence[Factor]) -> None:
        self._factors = factors
        sizes = {**sizes, _LAST: 1}
        scopes = _scopes(sizes, factors)
        self.order = list(scopes)
        place = {name: at for at, name in enumerate(self.order)}
        self.scopes = {name: (name, *sorted(beside, key=place.__getitem__)) for name, beside in scopes.items()}
        self.shapes = {name: tuple(sizes[one] for one in scope) for name, scope in self.scopes.items()}
        self.parents = {name: (*self.scopes[name][1:], _LAST)[0] for name in self.order[:-1]}
        self.children: dict[str, list[str]] = {name: [] for name in self.order}
        for name, parent in self.parents.items():
            self.children[parent].append(name)
        self._own: dict[str, list[np.ndarray]] = {name: [] for name in self.order}
        for factor in factors:
            names = sorted(factor.names, key=place.__getitem__)
            columns = factor.columns.transpose([factor.names.index(name) for name in names])
            first = names[0] if names else _LAST
            self._own[first].append(columns.reshape(self._laid(names, first, sizes)))
        self._messages = {name: self._laid(self.scopes[name][1:], to, sizes) for name, to in self.parents.items()}

    @property
    def largest(self) -> int:
        """Entries of the largest table."""
        return max(map(math.prod, self.shapes.values()))

    def tables(self, coefficients: np.ndarray) -> Tables:
        """Return the terms of a linear function of the programme's variables, each in the first table that it fits."""
        return {
            name: sum((coefficients[columns] for columns in own), np.zeros(self.shapes[name]))
            for name, own in self._own.items()
        }

    def upward(self, terms: Tables) -> tuple[Tables, Tables]:
        """Eliminate all groups.

        Returns:
            The tables of least sums over what was eliminated into them, and the messages that were made of these.
        """
        sums: dict[str, np.ndarray] = {}
        messages: dict[str, np.ndarray] = {}
        for name in self.order:
            sums[name] = sum((self.laid(one, messages[one]) for one in self.children[name]), terms[name])
            messages[name] = sums[name].min(0)
        return sums, messages

    def downward(self, sums: Tables, messages: Tables) -> Tables:
        """Return the tables of least sums over all groups that are not in their scope, from what `upward` returned."""
        least = {_LAST: sums[_LAST]}
        for name in reversed(self.order[:-1]):
            parent = self.parents[name]
            others = tuple(at for at, one in enumerate(self.scopes[parent]) if one not in self.scopes[name])
            outside = least[parent].min(others) if others else least[parent]
            least[name] = sums[name] + (outside - messages[name])
        return least

    def total(self, terms: Tables, places: Mapping[str, int]) -> float:
        """Return the sum of the terms where each group has the width of that number."""
        places = {**places, _LAST: 0}
        return sum(float(table[tuple(places[one] for one in self.scopes[name])]) for name, table in terms.items())

    def best(self, sums: Tables) -> dict[str, int]:
        """Return the number of each group's width in the least of all sums, from what `upward` returned."""
        places: dict[str, int] = {}
        for name in reversed(self.order[:-1]):
            row = sums[name]
            for one in reversed(self.scopes[name][1:]):
                row = row[..., places[one]]
            places[name] = int(np.argmin(row))
        return places

    def variables(self, places: Mapping[str, int], count: int) -> np.ndarray:
        """Return the programme's `count` variables where each group has the width of that number."""
        variables = np.zeros(count)
        for factor in self._factors:
            variables[factor.columns[tuple(places[name] for name in factor.names)]] = 1.0
        return variables

    def laid(self, child: str, message: np.ndarray) -> np.ndarray:
        """Return a child's message with the axes of its parent's table; those that it does not know have length 1."""
        return message.reshape(self._messages[child])

    def _laid(self, names: Sequence[str], into: str, sizes: Mapping[str, int]) -> list[int]:
        return [sizes[name] if name in names else 1 for name in self.scopes[into]]


def _scopes(sizes: Mapping[str, int], factors: Sequence[Factor]) -> dict[str, set[str]]:
    """Return the groups in the order of elimination, each with those beside it then; the smallest table goes first."""
    left: dict[str, set[str]] = {name: set() for name in sizes if name != _LAST}
    for factor in factors:
        for name in factor.names:
            left[name] |= set(factor.names) - {name}
    scopes: dict[str, set[str]] = {}
    while left:
        name = min(left, key=lambda one: (sizes[one] * math.prod(sizes[other] for other in left[one]), one))
        scopes[name] = left.pop(name)
        for one in scopes[name]:
            left[one] = (left[one] | scopes[name]) - {one, name}
    return {**scopes, _LAST: set()}
