"""Groups x candidate widths, their value and the layers' costs -> a mixed-integer programme.

One binary variable for each group and candidate width, exactly one of them set. A layer's time depends on the widths of
what comes in and what goes out together:

- one group on both sides: the time is a coefficient of that group's variables;
- one group in, another out: pair variables y[i, j] >= 0 with row sums x_a[i] and column sums x_b[j] (the transport
  form, whose relaxation is tight), one block for all the layers between the same two groups;
- many groups in (after a concatenation): for each output width j a variable u[j], the channels that come in if j is
  chosen, between bounds that hold only if x_b[j] is set; the time is affine in u[j].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import Axis
from edgeprune.latency.predict import CostRow, NetworkTable

_SLOPE_POINTS = 9


@dataclass(frozen=True, eq=False)
class Problem:
    """A mixed-integer programme over the widths.

    Attributes:
        widths: group -> candidate widths, ascending.
        value: of every variable; zero for those that only carry costs.
        cost_us: of every variable.
        fixed_us: engine time that no width changes.
        equalities: constraint matrix; the product with the variables equals `right`.
        right: right-hand side of the equalities.
        bounds: constraint matrix of rows that must be <= 0.
        integral: 1 for the width variables, 0 for the others.
        upper: upper bound of every variable.
    """

    widths: Mapping[str, np.ndarray]
    value: np.ndarray
    cost_us: np.ndarray
    fixed_us: float
    equalities: csr_array
    right: np.ndarray
    bounds: csr_array
    integral: np.ndarray
    upper: np.ndarray
    offsets: Mapping[str, int]

    def widths_of(self, solution: np.ndarray) -> dict[str, int]:
        """Return group -> width for a solution vector."""
        return {
            name: int(choices[int(np.argmax(solution[self.offsets[name] : self.offsets[name] + len(choices)]))])
            for name, choices in self.widths.items()
        }


@dataclass
class _Builder:
    """Variables and constraints as they are added."""

    value: list[np.ndarray] = field(default_factory=list)
    cost: list[np.ndarray] = field(default_factory=list)
    upper: list[np.ndarray] = field(default_factory=list)
    integral: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    equal: list[tuple[np.ndarray, np.ndarray, float]] = field(default_factory=list)
    below: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, cost: np.ndarray, *, value: np.ndarray | None = None, upper: float, integral: bool) -> int:
        first, size = self.count, len(cost)
        self.value.append(np.zeros(size) if value is None else value)
        self.cost.append(np.array(cost, dtype=np.float64))
        self.upper.append(np.full(size, upper))
        self.integral.append(np.full(size, int(integral)))
        self.count += size
        return first

    def matrix(self, rows: list[tuple[np.ndarray, np.ndarray]]) -> csr_array:
        if not rows:
            return csr_array((0, self.count))
        lengths = [len(columns) for columns, _ in rows]
        return csr_array(
            (
                np.concatenate([entries for _, entries in rows]),
                np.concatenate([columns for columns, _ in rows]),
                np.concatenate([[0], np.cumsum(lengths)]),
            ),
            shape=(len(rows), self.count),
        )


def formulate(
    graph: ChannelGraph,
    table: NetworkTable,
    widths: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
) -> Problem:
    """Build the programme.

    Args:
        graph: the network's groups.
        table: what its layers cost.
        widths: group -> candidate widths, ascending; groups left out stay whole.
        values: group -> value of keeping w channels, at index w (length channels + 1).
    """
    full = {group.name: group.channels for group in graph}
    build = _Builder()
    offsets: dict[str, int] = {}
    for name, choices in widths.items():
        offsets[name] = build.add(np.zeros(len(choices)), value=values[name][choices], upper=1.0, integral=True)
        columns = offsets[name] + np.arange(len(choices))
        build.equal.append((columns, np.ones(len(choices)), 1.0))
    constant = table.fixed_us
    pairs: dict[tuple[str, str], np.ndarray] = {}
    for row in table.rows:
        cin, cout = (_open_part(axis, widths, full) for axis in row.axes)
        names = sorted(set(cin.parts) | set(cout.parts))
        if not names:
            constant += float(table.row_us(row, np.array(cin.fixed), np.array(cout.fixed)))
        elif len(names) == 1:
            choices = widths[names[0]]
            _cost_of(
                build,
                offsets,
                names[0],
                table.row_us(row, _counts(cin, names[0], choices), _counts(cout, names[0], choices)),
            )
        elif len(names) == 2:
            one, other = names
            grid = {one: widths[one][:, None], other: widths[other][None, :]}
            cost = table.row_us(row, _grid_width(cin, grid), _grid_width(cout, grid))
            pairs[one, other] = pairs.get((one, other), 0.0) + cost
        elif len(cout.parts) <= 1 and not set(cout.parts) & set(cin.parts):
            constant += _many_in(build, offsets, widths, table, row, cin, cout)
        else:
            constant += _linear(build, offsets, widths, table, row, cin, cout)
    for (one, other), cost in pairs.items():
        _transport(build, offsets, one, other, cost)
    return Problem(
        widths=widths,
        value=np.concatenate(build.value) if build.value else np.zeros(0),
        cost_us=np.concatenate(build.cost) if build.cost else np.zeros(0),
        fixed_us=constant,
        equalities=build.matrix([(columns, entries) for columns, entries, _ in build.equal]),
        right=np.array([right for *_, right in build.equal]),
        bounds=build.matrix(build.below),
        integral=np.concatenate(build.integral) if build.integral else np.zeros(0),
        upper=np.concatenate(build.upper) if build.upper else np.zeros(0),
        offsets=offsets,
    )


def _open_part(axis: Axis, widths: Mapping[str, np.ndarray], full: Mapping[str, int]) -> Axis:
    """Return the axis with groups that are not up for choice counted as fixed."""
    return axis.fix({name: channels for name, channels in full.items() if name not in widths})


def _counts(axis: Axis, name: str, choices: np.ndarray) -> np.ndarray:
    return np.asarray(axis.fixed + axis.parts.get(name, 0) * choices)


def _grid_width(axis: Axis, grid: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(axis.fixed + sum(each * grid[name] for name, each in axis.parts.items()))


def _cost_of(build: _Builder, offsets: Mapping[str, int], name: str, cost: np.ndarray) -> None:
    """Add to the cost of a group's width variables, which are the first that were added."""
    at = list(offsets).index(name)
    build.cost[at] += cost


def _transport(build: _Builder, offsets: Mapping[str, int], one: str, other: str, cost: np.ndarray) -> None:
    rows, columns = cost.shape
    first = build.add(cost.ravel(), upper=1.0, integral=False)
    cells = first + np.arange(rows * columns).reshape(rows, columns)
    for i in range(rows):
        build.equal.append((np.append(cells[i], offsets[one] + i), np.append(np.ones(columns), -1.0), 0.0))
    for j in range(columns):
        build.equal.append((np.append(cells[:, j], offsets[other] + j), np.append(np.ones(rows), -1.0), 0.0))


def _many_in(
    build: _Builder,
    offsets: Mapping[str, int],
    widths: Mapping[str, np.ndarray],
    table: NetworkTable,
    row: CostRow,
    cin: Axis,
    cout: Axis,
) -> float:
    """Add a layer that many groups flow into; return the constant part of its cost."""
    name = next(iter(cout.parts), None)
    outs = _counts(cout, name, widths[name]) if name else np.array([cout.fixed])
    low, high = _range(cin, widths)
    marks = np.linspace(low, high, _SLOPE_POINTS)
    times = table.row_us(row, marks[:, None], outs[None, :])
    slopes, starts = np.polyfit(marks - low, times, 1)
    if name is None:
        for group, each in cin.parts.items():
            _cost_of(build, offsets, group, slopes[0] * each * (widths[group] - widths[group][0]))
        return float(starts[0])
    _cost_of(build, offsets, name, starts)
    first = build.add(slopes, upper=high - low, integral=False)
    count = len(outs)
    for j in range(count):
        build.below.append((np.array([first + j, offsets[name] + j]), np.array([1.0, low - high])))
    columns, entries = [first + np.arange(count)], [np.ones(count)]
    for group, each in cin.parts.items():
        columns.append(offsets[group] + np.arange(len(widths[group])))
        entries.append(-each * (widths[group] - widths[group][0]).astype(np.float64))
    build.equal.append((np.concatenate(columns), np.concatenate(entries), 0.0))
    return 0.0


def _linear(
    build: _Builder,
    offsets: Mapping[str, int],
    widths: Mapping[str, np.ndarray],
    table: NetworkTable,
    row: CostRow,
    cin: Axis,
    cout: Axis,
) -> float:
    """Add a row whose input and output hold many groups (a concatenation, a norm after it): affine in each group."""
    low, high = ({name: one[end] for name, one in widths.items()} for end in (0, -1))
    total = float(table.row_us(row, np.array(cin.width(high)), np.array(cout.width(high))))
    least = float(table.row_us(row, np.array(cin.width(low)), np.array(cout.width(low))))
    names = sorted(set(cin.parts) | set(cout.parts))
    reach = {n: (cin.parts.get(n, 0) + cout.parts.get(n, 0)) * float(high[n] - low[n]) for n in names}
    per_channel = (total - least) / max(sum(reach.values()), 1.0)
    for name in names:
        share = (widths[name] - low[name]) * (cin.parts.get(name, 0) + cout.parts.get(name, 0))
        _cost_of(build, offsets, name, per_channel * share)
    return least


def _range(axis: Axis, widths: Mapping[str, np.ndarray]) -> tuple[float, float]:
    ends = [{name: int(choices[end]) for name, choices in widths.items()} for end in (0, -1)]
    return float(axis.width(ends[0])), float(max(axis.width(ends[1]), axis.width(ends[0]) + 1))
