"""Groups x candidate widths, their value and the layers' costs -> a mixed-integer programme.

A layer's time depends on the widths of what comes in and what goes out together (`budget/programme.py` says how that
becomes linear). After a concatenation the time is taken as affine in the channels that come in, for each output width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from edgeprune.budget.amounts import macs_of, params_of
from edgeprune.budget.programme import Amount, Programme, Terms
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import Axis
from edgeprune.latency.predict import CostRow, NetworkTable

_SLOPE_POINTS = 9


@dataclass(frozen=True, eq=False)
class Problem:
    """A mixed-integer programme over the widths.

    Attributes:
        widths: group -> candidate widths, ascending.
        value: of every variable; zero for those that only carry amounts.
        cost: what is budgeted: engine time in microseconds, or multiply-accumulates.
        equalities: constraint matrix; the product with the variables equals `right`.
        right: right-hand side of the equalities.
        bounds: constraint matrix of rows that must be <= 0.
        integral: 1 for the width variables, 0 for the others.
        upper: upper bound of every variable.
        offsets: group -> its first variable.
        pairs: pair variables and the two width variables that each stands for, in three rows.
        params: parameters and buffers' entries; None where nothing limits them.
        limits: what limits them, such as `--max-params` -> the most there may be.
    """

    widths: Mapping[str, np.ndarray]
    value: np.ndarray
    cost: Amount
    equalities: csr_array
    right: np.ndarray
    bounds: csr_array
    integral: np.ndarray
    upper: np.ndarray
    offsets: Mapping[str, int]
    pairs: np.ndarray
    params: Amount | None = None
    limits: Mapping[str, int] = field(default_factory=dict)

    def widths_of(self, solution: np.ndarray) -> dict[str, int]:
        """Return group -> width for a solution vector."""
        return {
            name: int(choices[int(np.argmax(solution[self.offsets[name] : self.offsets[name] + len(choices)]))])
            for name, choices in self.widths.items()
        }

    def value_of(self, widths: Mapping[str, int]) -> float:
        """Return the sum of the groups' values at candidate widths."""
        return sum(
            float(self.value[self.offsets[name] + int(np.searchsorted(choices, widths[name]))])
            for name, choices in self.widths.items()
        )


def formulate(
    graph: ChannelGraph,
    table: NetworkTable,
    widths: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    limits: Mapping[str, int] | None = None,
) -> Problem:
    """Build the programme whose budget is the engine's time.

    Args:
        graph: the network's groups.
        table: what its layers cost.
        widths: group -> candidate widths, ascending; groups left out stay whole.
        values: group -> value of keeping w channels, at index w (length channels + 1).
        limits: name of a limit -> the most parameters that it allows.
    """
    programme = Programme(widths)
    return _problem(programme, graph, values, _time_of(programme, graph, table), limits or {})


def formulate_macs(
    graph: ChannelGraph,
    widths: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    limits: Mapping[str, int] | None = None,
) -> Problem:
    """Build the same programme with multiply-accumulates as its budget."""
    programme = Programme(widths)
    return _problem(programme, graph, values, macs_of(programme, graph), limits or {})


def _problem(
    programme: Programme,
    graph: ChannelGraph,
    values: Mapping[str, np.ndarray],
    cost: Terms,
    limits: Mapping[str, int],
) -> Problem:
    params = params_of(programme, graph) if limits else None
    value = np.zeros(programme.count)
    for name, choices in programme.widths.items():
        value[programme.chosen(name)] = values[name][choices]
    return Problem(
        widths=programme.widths,
        value=value,
        cost=cost.amount(programme.count),
        equalities=programme.matrix([row for row, _ in programme.equal]),
        right=np.array([right for _, right in programme.equal]),
        bounds=programme.matrix(programme.below),
        integral=programme.integral,
        upper=programme.upper,
        offsets=programme.offsets,
        pairs=programme.pairs,
        params=params.amount(programme.count) if params else None,
        limits=limits,
    )


def _time_of(programme: Programme, graph: ChannelGraph, table: NetworkTable) -> Terms:
    """Return the engine's microseconds."""
    widths = programme.widths
    closed = {group.name: group.channels for group in graph if group.name not in widths}
    time = Terms(table.fixed_us)
    for row in table.rows:
        cin, cout = (axis.fix(closed) for axis in row.axes)
        names = sorted(set(cin.parts) | set(cout.parts))
        gates = {name for name in row.groups if name in widths and widths[name][0] == 0}
        if len(gates.union(names)) <= 2:  # with more, what other groups take away from the row is left out
            names = sorted(gates.union(names))
        if not names:
            time.constant += float(table.row_us(row, np.array(cin.fixed), np.array(cout.fixed), {}))
        elif len(names) == 1:
            choices = widths[names[0]]
            us = table.row_us(
                row, _counts(cin, names[0], choices), _counts(cout, names[0], choices), {names[0]: choices}
            )
            time.add(programme.chosen(names[0]), us)
        elif len(names) == 2:
            one, other = names
            grid = {one: widths[one][:, None], other: widths[other][None, :]}
            us = table.row_us(row, _grid_width(cin, grid), _grid_width(cout, grid), grid)
            pair = programme.pair(one, other)
            time.add(pair, np.broadcast_to(us, pair.shape))
        elif len(cout.parts) <= 1 and not set(cout.parts) & set(cin.parts):
            _many_in(programme, time, table, row, cin, cout)
        else:
            _linear(programme, time, table, row, cin, cout)
    return time


def _counts(axis: Axis, name: str, choices: np.ndarray) -> np.ndarray:
    return np.asarray(axis.fixed + axis.parts.get(name, 0) * choices)


def _grid_width(axis: Axis, grid: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(axis.fixed + sum(each * grid[name] for name, each in axis.parts.items()))


def _many_in(programme: Programme, time: Terms, table: NetworkTable, row: CostRow, cin: Axis, cout: Axis) -> None:
    """Add a layer that many groups flow into: affine in what comes in, for each output width."""
    name = next(iter(cout.parts), None)
    outs = _counts(cout, name, programme.widths[name]) if name else np.array([cout.fixed])
    low, high = programme.range(cin)
    marks = np.linspace(low, high, _SLOPE_POINTS)
    times = table.row_us(row, marks[:, None], outs[None, :], {})
    slopes, starts = np.polyfit(marks - low, times, 1)
    if name is None:
        time.constant += float(starts[0])
        for group, each in cin.parts.items():
            choices = programme.widths[group]
            time.add(programme.chosen(group), slopes[0] * each * (choices - choices[0]))
        return
    time.add(programme.chosen(name), starts)
    time.add(programme.inflow(cin, name), slopes)


def _linear(programme: Programme, time: Terms, table: NetworkTable, row: CostRow, cin: Axis, cout: Axis) -> None:
    """Add a row whose input and output hold many groups (a concatenation, a norm after it): affine in each group."""
    widths = programme.widths
    low, high = ({name: one[end] for name, one in widths.items()} for end in (0, -1))
    total = float(table.row_us(row, np.array(cin.width(high)), np.array(cout.width(high)), {}))
    least = float(table.row_us(row, np.array(cin.width(low)), np.array(cout.width(low)), {}))
    names = sorted(set(cin.parts) | set(cout.parts))
    each = {name: cin.parts.get(name, 0) + cout.parts.get(name, 0) for name in names}
    reach = sum(each[name] * float(high[name] - low[name]) for name in names)
    time.constant += least
    for name in names:
        share = (widths[name] - low[name]) * each[name]
        time.add(programme.chosen(name), (total - least) / max(reach, 1.0) * share)
