"""A mixed-integer programme over the widths, as it is put together: its variables, and functions of them.

One binary variable for each group and candidate width, exactly one of them set. What depends on the widths of two
groups together needs variables of its own:

- one group in, another out: pair variables y[i, j] >= 0 with row sums x_a[i] and column sums x_b[j] (the transport
  form, whose relaxation is tight), one block for all that depends on the same two groups;
- a third group, whose being empty takes both away: the pairs say how wide the one is while the other is there, and
  those widths, which need no branching, are paired in turn;
- many groups in (after a concatenation): for each output width j a variable u[j], the channels that come in if j is
  chosen, between bounds that hold only if x_b[j] is set; so the amount is affine in what comes in;
- or, `by_sums`, a variable for each sum of what comes in and each output width, as any amount would have it. No
  constraint says what these are: only elimination can solve that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from edgeprune.budget.elimination import Factor, Sum
from edgeprune.budget.sums import Sums
from edgeprune.graph.layers import Axis

ROUNDING = 1e-9
"""Relative rounding error of a sum over all groups: over a limit by less is within it, and a smaller gap is none."""


@dataclass(frozen=True, eq=False)
class Amount:
    """What a plan takes of something (time, parameters, MACs): `each @ variables + constant`."""

    each: np.ndarray
    constant: float

    def of(self, variables: np.ndarray) -> float:
        """Return the amount at a vector of variables."""
        return self.constant + float(self.each @ variables)


@dataclass
class Terms:
    """An amount, as its terms are added."""

    constant: float = 0.0
    _columns: list[np.ndarray] = field(default_factory=list)
    _entries: list[np.ndarray] = field(default_factory=list)

    def add(self, columns: np.ndarray, entries: np.ndarray) -> None:
        """Add `entries` times the variables at `columns`, arrays of one shape."""
        self._columns.append(columns.ravel())
        self._entries.append(np.asarray(entries, dtype=np.float64).ravel())

    def amount(self, count: int) -> Amount:
        """Return the sum of all terms, over `count` variables."""
        if not self._columns:
            return Amount(np.zeros(count), self.constant)
        columns, entries = np.concatenate(self._columns), np.concatenate(self._entries)
        return Amount(np.bincount(columns, entries, minlength=count), self.constant)


Row = tuple[np.ndarray, np.ndarray]
"""Columns and entries of one row of a constraint matrix."""


@dataclass(frozen=True, eq=False)
class Inflow:
    """What comes in of many groups, for each width of another one that goes out.

    Attributes:
        flow: its columns, one for each of these widths: what comes in above the least at the chosen one, else zero.
        name: the group that goes out.
        parts: group that comes in -> entries for each of its channels.
    """

    flow: np.ndarray
    name: str
    parts: Mapping[str, float]


class Programme:
    """Variables and the constraints that hold between them, as they are put together; a `Problem` is made of it.

    Args:
        groups: group -> candidate widths, ascending.
        by_sums: what depends on many groups is told by their sums, for elimination alone.

    Attributes:
        groups: the same.
        by_sums: the same.
        widths: the same, and the widths of what `gated` added.
        count: how many variables there are.
        offsets: what has widths -> its first variable.
        equal: rows of the constraints, and what each must equal.
        below: rows that must be <= 0.
    """

    def __init__(self, groups: Mapping[str, np.ndarray], *, by_sums: bool = False) -> None:
        self.groups = groups
        self.by_sums = by_sums
        self.widths: dict[str, np.ndarray] = {}
        self.count = 0
        self.offsets: dict[str, int] = {}
        self.equal: list[tuple[Row, float]] = []
        self.below: list[Row] = []
        self._upper: list[np.ndarray] = []
        self._pairs: dict[tuple[str, str], np.ndarray] = {}
        self._gates: dict[str, tuple[str, str]] = {}
        self._inflows: dict[tuple[tuple[tuple[str, float], ...], str], Inflow] = {}
        self._sums = Sums(groups)
        self._joint: list[Factor] = []
        for name, choices in groups.items():
            self._choose(name, choices)
        self._integral = self.count

    @property
    def has_sums(self) -> bool:
        """Whether something is told by sums, so that the constraints don't say all."""
        return bool(self._joint)

    @property
    def integral(self) -> np.ndarray:
        """1 for the width variables, which come first, 0 for the others."""
        return np.repeat([1, 0], [self._integral, self.count - self._integral])

    @property
    def upper(self) -> np.ndarray:
        """Upper bound of every variable; the lower one is zero."""
        return np.concatenate(self._upper) if self._upper else np.zeros(0)

    def chosen(self, name: str) -> np.ndarray:
        """Return the columns of the width variables of a group, or of what `gated` named."""
        return self.offsets[name] + np.arange(len(self.widths[name]))

    @property
    def owners(self) -> np.ndarray:
        """The number of what each variable is a width of, -1 where it is none."""
        owners = np.full(self.count, -1)
        for number, name in enumerate(self.widths):
            owners[self.chosen(name)] = number
        return owners

    def gated(self, name: str, gate: str) -> str:
        """Return the name of something as wide as a group, but empty where another group is empty.

        Args:
            name: the group.
            gate: the other one, which has an empty width.
        """
        both = f"{name} while {gate}"
        if both not in self.widths:
            one, other = sorted((name, gate))
            pair = self.pair(one, other) if one == name else self.pair(one, other).T
            wide = self.widths[name] > 0
            chosen = self._choose(both, np.append(0, self.widths[name][wide]))
            self._gates[both] = name, gate
            self._sum_up(pair[wide][:, self.widths[gate] > 0], chosen[1:])
        return both

    def pair(self, one: str, other: str) -> np.ndarray:
        """Return the columns of two groups' pair variables, shape (widths of one, widths of other)."""
        if (one, other) not in self._pairs:
            rows, columns = len(self.widths[one]), len(self.widths[other])
            cells = self._add(rows * columns, 1.0).reshape(rows, columns)
            self._sum_up(cells, self.chosen(one))
            self._sum_up(cells.T, self.chosen(other))
            self._pairs[one, other] = cells
        return self._pairs[one, other]

    @property
    def pairs(self) -> np.ndarray:
        """Pair variables and the two width variables that each stands for, columns in three rows."""
        blocks = [
            np.stack(np.broadcast_arrays(cells, self.chosen(one)[:, None], self.chosen(other)[None, :])).reshape(3, -1)
            for (one, other), cells in self._pairs.items()
        ]
        return np.concatenate([np.zeros((3, 0), np.int64), *blocks], axis=1)

    def factors(self) -> tuple[list[Factor], list[Sum]]:
        """Return the variables by the groups, and sums of groups, whose widths say what they are; and these sums."""
        factors = [self._factor([name], self.chosen(name)) for name in self.widths]
        factors += [self._factor(ends, cells) for ends, cells in self._pairs.items()]
        for one in sorted(self._inflows.values(), key=lambda one: len(one.parts)):
            name, above = self._sums.of(one.parts)
            columns, values = np.broadcast_arrays(one.flow[None, :], above[:, None])
            factors.append(Factor((name, one.name), columns, values))
        return [*factors, *self._joint], self._sums.made

    def _factor(self, ends: Sequence[str], cells: np.ndarray) -> Factor:
        """Return the variables `cells` of groups, and of what `gated` named, over the widths of groups alone."""
        names = tuple(dict.fromkeys(name for end in ends for name in self._gates.get(end, (end,))))
        grid = dict(zip(names, np.ix_(*(np.arange(len(self.widths[name])) for name in names)), strict=True))
        columns = cells[tuple(self._number(end, grid) for end in ends)]
        return Factor(names, columns, np.ones(columns.shape))

    def _number(self, name: str, grid: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the number of the width of a group, or of what `gated` named, at those of its groups in `grid`."""
        if name not in self._gates:
            return grid[name]
        group, gate = self._gates[name]
        wide = np.cumsum(self.widths[group] > 0)  # 0 is the first of the widths while the gate is there
        return np.where(self.widths[gate][grid[gate]] > 0, wide[grid[group]], 0)

    def inflow(self, cin: Axis, name: str) -> np.ndarray:
        """Return the columns that hold, for each width of group `name`, what comes in above the least if it is chosen.

        Args:
            cin: the channels that come in, of other groups than `name`.
            name: the group that goes out.
        """
        key = tuple(sorted(cin.parts.items())), name
        if key not in self._inflows:
            above = {group: each * (self.widths[group] - self.widths[group][0]) for group, each in cin.parts.items()}
            most = float(sum(entries[-1] for entries in above.values()))
            chosen = self.chosen(name)
            flow = self._add(len(chosen), most)
            for one, column in zip(flow, chosen, strict=True):
                self.below.append((np.array([one, column]), np.array([1.0, -most])))
            columns = [flow, *(self.chosen(group) for group in above)]
            entries = [np.ones(len(flow)), *(-one for one in above.values())]
            self.equal.append(((np.concatenate(columns), np.concatenate(entries)), 0.0))
            self._inflows[key] = Inflow(flow, name, cin.parts)
        return self._inflows[key].flow

    def joint(self, axis: Axis, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return variables for what depends on the size of a dimension of many groups, and on one more group at most.

        Args:
            axis: the dimension.
            names: the other group, or none.

        Returns:
            The sizes that the dimension may have, and the columns of the variables, shape (sizes, widths of the group);
            the one is set where it has that size, and the group that width.
        """
        name, above = self._sums.of(axis.parts)
        least = sum(each * float(self.groups[group][0]) for group, each in axis.parts.items())
        shape = (len(above), *(len(self.groups[one]) for one in names))
        cells = self._add(math.prod(shape), 1.0).reshape(shape)
        self._joint.append(Factor((name, *names), cells, np.ones(shape)))
        return axis.fixed + np.rint(least + above), cells

    def range(self, axis: Axis) -> tuple[float, float]:
        """Return the least and the greatest size of a dimension, at least one apart."""
        low, high = ({name: int(choices[end]) for name, choices in self.widths.items()} for end in (0, -1))
        return float(axis.width(low)), float(max(axis.width(high), axis.width(low) + 1))

    def matrix(self, rows: list[Row]) -> csr_array:
        """Return rows as a sparse matrix over all variables."""
        if not rows:
            return csr_array((0, self.count))
        ends = np.cumsum([len(columns) for columns, _ in rows])
        entries, columns = (np.concatenate([row[at] for row in rows]) for at in (1, 0))
        return csr_array((entries, columns, np.append(0, ends)), shape=(len(rows), self.count))

    def _sum_up(self, cells: np.ndarray, totals: np.ndarray) -> None:
        """Let the variables of each row of `cells` add up to the variable of `totals` beside it."""
        for line, total in zip(cells, totals, strict=True):
            self.equal.append(((np.append(line, total), np.append(np.ones(len(line)), -1.0)), 0.0))

    def _choose(self, name: str, choices: np.ndarray) -> np.ndarray:
        self.widths[name] = choices
        self.offsets[name] = self.count
        columns = self._add(len(choices), 1.0)
        self.equal.append(((columns, np.ones(len(choices))), 1.0))
        return columns

    def _add(self, size: int, upper: float) -> np.ndarray:
        columns = self.count + np.arange(size)
        self.count += size
        self._upper.append(np.full(size, upper))
        return columns
