"""Least sums over the groups' widths, by eliminating one group after the other (bucket elimination, Dechter 1999).

What a plan loses and takes is a sum of terms of a few groups each. To eliminate a group, the terms that depend on it
are added up into one table over its widths and those of its neighbours, and the minimum is taken over its own widths.
What is left, its message, is added to the table of that neighbour which is eliminated next. In a network few groups
stand between one part and the rest (a trunk's width between its blocks), so the tables stay small, and the least of the
whole sum is found exactly, in one pass.

What flows together (a concatenation) is a sum of widths, which is something to have a table over like a group: a layer
behind it depends on the sum alone. It is not chosen but follows from what it is the sum of; so its table is not
minimised but laid, entry by entry, where those two are.
"""

from __future__ import annotations

import math
from collections import Counter
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
        names: the groups, and sums of them.
        columns: at [i, j, ...] the variable of the programme that is not zero where they have their widths number i, j,
            ... (for a sum, its value of that number).
        values: of that variable there; of one shape with `columns`.
    """

    names: tuple[str, ...]
    columns: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Sum:
    """What follows from the widths of two groups, or of sums that were made before it.

    Attributes:
        name: of the sum.
        of: the two.
        places: at [i, j] the number of its value where they have their widths number i and j.
    """

    name: str
    of: tuple[str, str]
    places: np.ndarray

    @property
    def size(self) -> int:
        """How many values it may have."""
        return int(self.places.max()) + 1


class Elimination:
    """An order in which groups are eliminated, and the tables that come of it.

    Args:
        sizes: group -> how many widths it may have.
        factors: what depends on which groups.
        sums: what follows from others, each after those that it is the sum of; in what follows, it is a group as well.
        order: in which to eliminate; the one of the smallest tables if it is not given.

    Attributes:
        order: the groups, in the order in which they are eliminated; in the end the last table, of no group.
        scopes: group -> itself and the groups that its table is over.
        shapes: group -> their numbers of widths.
        parents: group -> the group whose table its message goes to.
        children: the other way round.
        sums: name of a sum -> the sum.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        factors: Sequence[Factor],
        sums: Sequence[Sum] = (),
        order: Sequence[str] = (),
    ) -> None:
        self._factors = factors
        self._sizes = sizes
        self.sums = {one.name: one for one in sums}
        sizes = {**sizes, **{one.name: one.size for one in sums}, _LAST: 1}
        scopes = _scopes(sizes, factors, self.sums, order)
        self.order = list(scopes)
        place = {name: at for at, name in enumerate(self.order)}
        self.scopes = {name: (name, *sorted(beside, key=place.__getitem__)) for name, beside in scopes.items()}
        self.shapes = {name: tuple(sizes[one] for one in scope) for name, scope in self.scopes.items()}
        needed = {
            name: {*scope[1:], *(self.sums[name].of if name in self.sums else ())}
            for name, scope in self.scopes.items()
        }
        self.parents = {name: min((*needed[name], _LAST), key=place.__getitem__) for name in self.order[:-1]}
        self.children: dict[str, list[str]] = {name: [] for name in self.order}
        for name, parent in self.parents.items():
            self.children[parent].append(name)
        self._own: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.order}
        for factor in factors:
            names = sorted(factor.names, key=place.__getitem__)
            axes = [factor.names.index(name) for name in names]
            first = names[0] if names else _LAST
            shape = self._laid(names, first, sizes)
            columns, values = (one.transpose(axes).reshape(shape) for one in (factor.columns, factor.values))
            self._own[first].append((columns, values))
        self._messages = {name: self._laid(self.scopes[name][1:], to, sizes) for name, to in self.parents.items()}
        self._places = {name: self._places_of(one) for name, one in self.sums.items()}

    @property
    def largest(self) -> int:
        """Entries of the largest table."""
        return max(map(math.prod, self.shapes.values()))

    @property
    def entries(self) -> int:
        """Entries of all tables together."""
        return sum(map(math.prod, self.shapes.values()))

    def message_shape(self, name: str) -> tuple[int, ...]:
        """Return the numbers of widths of what a group's message is over: all but its own, or a sum's as well."""
        return self.shapes[name] if name in self.sums else self.shapes[name][1:]

    def tables(self, coefficients: np.ndarray) -> Tables:
        """Return the terms of a linear function of the programme's variables, each in the first table that it fits."""
        return {
            name: sum((coefficients[columns] * values for columns, values in own), np.zeros(self.shapes[name]))
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
            messages[name] = sums[name] if name in self.sums else sums[name].min(0)
        return sums, messages

    def downward(self, sums: Tables, messages: Tables) -> Tables:
        """Return the tables of least sums over all groups that are not in their scope, from what `upward` returned."""
        least = {_LAST: sums[_LAST]}
        for name in reversed(self.order[:-1]):
            parent = self.parents[name]
            if name in self.sums:
                least[name] = np.full(self.shapes[name], np.inf)
                at = np.broadcast_to(self.laid(name, np.arange(least[name].size)), self.shapes[parent])
                np.minimum.at(least[name].reshape(-1), at.ravel(), least[parent].ravel())
                continue
            others = tuple(at for at, one in enumerate(self.scopes[parent]) if one not in self.scopes[name])
            outside = least[parent].min(others) if others else least[parent]
            least[name] = sums[name] + (outside - messages[name])
        return least

    def total(self, terms: Tables, places: Mapping[str, int]) -> float:
        """Return the sum of the terms where each group has the width of that number."""
        places = self.complete(places)
        return sum(float(table[tuple(places[one] for one in self.scopes[name])]) for name, table in terms.items())

    def complete(self, places: Mapping[str, int]) -> dict[str, int]:
        """Return the numbers of the groups' widths, with those of the sums, and of the last table's only entry."""
        found = {**places, _LAST: 0}
        for one in self.sums.values():
            found[one.name] = int(one.places[found[one.of[0]], found[one.of[1]]])
        return found

    def best(self, sums: Tables) -> dict[str, int]:
        """Return the number of each group's width in the least of all sums, from what `upward` returned."""
        places: dict[str, int] = {}
        for name in reversed(self.order[:-1]):
            if name in self.sums:
                one, other = self.sums[name].of
                places[name] = int(self.sums[name].places[places[one], places[other]])
                continue
            row = sums[name]
            for one in reversed(self.scopes[name][1:]):
                row = row[..., places[one]]
            places[name] = int(np.argmin(row))
        return places

    def variables(self, places: Mapping[str, int], count: int) -> np.ndarray:
        """Return the programme's `count` variables where each group has the width of that number."""
        places = self.complete(places)
        variables = np.zeros(count)
        for factor in self._factors:
            at = tuple(places[name] for name in factor.names)
            variables[factor.columns[at]] = factor.values[at]
        return variables

    def restricted(self, kept: Mapping[str, np.ndarray]) -> Elimination:
        """Return the same, in the same order, over some of the widths: group -> their numbers, ascending."""
        kept = dict(kept)
        sums = []
        for one in self.sums.values():
            values, places = np.unique(one.places[np.ix_(*(kept[name] for name in one.of))], return_inverse=True)
            kept[one.name] = values
            sums.append(Sum(one.name, one.of, places.reshape([len(kept[name]) for name in one.of])))
        factors = []
        for factor in self._factors:
            at = np.ix_(*(kept[name] for name in factor.names))
            factors.append(Factor(factor.names, factor.columns[at], factor.values[at]))
        return Elimination({name: len(kept[name]) for name in self._sizes}, factors, sums, self.order[:-1])

    def laid(self, child: str, message: np.ndarray) -> np.ndarray:
        """Return a child's message with the axes of its parent's table; those that it does not know have length 1."""
        if child in self.sums:
            return np.asarray(message.reshape(self.shapes[child])[self._places[child]])
        return message.reshape(self._messages[child])

    def _places_of(self, one: Sum) -> tuple[np.ndarray, ...]:
        """Return where in a sum's table each entry of its parent's table finds its own, an array for each axis."""
        scope = self.scopes[self.parents[one.name]]

        def along(names: Sequence[str], places: np.ndarray) -> np.ndarray:
            ordered = places.transpose([names.index(name) for name in sorted(names, key=scope.index)])
            return ordered.reshape([places.shape[names.index(name)] if name in names else 1 for name in scope])

        beside = zip(self.scopes[one.name][1:], self.shapes[one.name][1:], strict=True)
        return along(one.of, one.places), *(along((name,), np.arange(size)) for name, size in beside)

    def _laid(self, names: Sequence[str], into: str, sizes: Mapping[str, int]) -> list[int]:
        return [sizes[name] if name in names else 1 for name in self.scopes[into]]


def _scopes(
    sizes: Mapping[str, int], factors: Sequence[Factor], sums: Mapping[str, Sum], order: Sequence[str]
) -> dict[str, set[str]]:
    """Return the groups in the order of elimination, each with those beside it then; the smallest table goes first.

    A sum goes before what it is the sum of, and brings these together with what is beside it. An `order` may be given.
    """
    left: dict[str, set[str]] = {name: set() for name in sizes if name != _LAST}
    for factor in factors:
        for name in factor.names:
            left[name] |= set(factor.names) - {name}
    waiting = Counter(name for one in sums.values() for name in one.of)
    scopes: dict[str, set[str]] = {}

    def entries(name: str) -> int:
        over = {*left[name], *sums[name].of} if name in sums else {*left[name], name}
        return math.prod(sizes[one] for one in over)

    while left:
        free = (one for one in left if not waiting[one])
        name = order[len(scopes)] if order else min(free, key=lambda one: (entries(one), one))
        scopes[name] = left.pop(name)
        together = {*scopes[name], *(sums[name].of if name in sums else ())}
        waiting -= Counter(sums[name].of if name in sums else ())
        for one in together:
            left[one] = (left[one] | together) - {one, name}
    return {**scopes, _LAST: set()}
