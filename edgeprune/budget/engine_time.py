"""The engine's time, as an amount of the programme.

A layer's time depends on the widths of what comes in and what goes out together (`budget/programme.py` says how that
becomes linear), and on whether groups that are neither have been emptied: the 1x1 convolution that begins a bottleneck
is gone when the 3x3 one after it is. After a concatenation it is told by the sum of the channels that come in, where
the programme is `by_sums`; else it is taken as affine in them, for each output width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeprune.budget.programme import Programme, Terms
from edgeprune.graph.layers import Axis
from edgeprune.latency.predict import CostRow, NetworkTable

_SLOPE_POINTS = 9

Links = Counter[frozenset[str]]
"""Groups -> how many layers have just those for their channels."""


def time_of(programme: Programme, table: NetworkTable) -> Terms:
    """Return the engine's microseconds.

    Where several groups can take a row away by being emptied, beside those that its channels are of, one of them
    counts: the time may be too long for that, never too short.
    """
    closed = {name: width for name, width in table.dense.widths.items() if name not in programme.widths}
    layers = [_Layer(table, row, *(axis.fix(closed) for axis in row.axes)) for row in table.rows]
    links = Counter(frozenset(layer.names) for layer in layers)
    time = Terms(table.fixed_us)
    for layer in layers:
        names = layer.names
        gates = _gates(programme, layer, links)
        if len(names) > 2:
            _many(programme, time, layer)
            continue
        if len(names) == 2 and gates and _gated(programme, time, layer, gates[0], links):
            continue
        names = sorted([*names, *gates[: 2 - len(names)]])
        if len(names) == 2:
            _pair(programme, time, layer, *names)
        elif names:
            widths = {names[0]: programme.widths[names[0]]}
            time.add(programme.chosen(names[0]), layer.us(widths))
        else:
            time.constant += float(layer.us({}))
    return time


@dataclass(frozen=True)
class _Layer:
    """A row of the table, with the channels of groups that are not up for choice counted in."""

    table: NetworkTable
    row: CostRow
    cin: Axis
    cout: Axis

    @property
    def names(self) -> list[str]:
        """The groups that its channels are of."""
        return sorted({*self.cin.parts, *self.cout.parts})

    def us(self, widths: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return its microseconds at widths of its groups, arrays that are broadcast against each other."""
        return self.table.row_us(self.row, _size(self.cin, widths), _size(self.cout, widths), widths)


def _size(axis: Axis, widths: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(axis.fixed + sum(each * widths[name] for name, each in axis.parts.items()))


def _gates(programme: Programme, layer: _Layer, links: Links) -> list[str]:
    """Return the other groups that may take a layer away by being emptied, those most linked to its own first."""
    widths = programme.widths
    gates = [name for name in layer.row.groups - set(layer.names) if name in widths and widths[name][0] == 0]
    return sorted(
        gates, key=lambda gate: (-max((links[frozenset({gate, name})] for name in layer.names), default=0), gate)
    )


def _pair(programme: Programme, time: Terms, layer: _Layer, one: str, other: str) -> None:
    """Add a layer that depends on two groups."""
    pair = programme.pair(one, other)
    us = layer.us({one: programme.widths[one][:, None], other: programme.widths[other][None, :]})
    time.add(pair, np.broadcast_to(us, pair.shape))


def _gated(programme: Programme, time: Terms, layer: _Layer, gate: str, links: Links) -> bool:
    """Add a layer of two groups that a third one takes away, where it can be said by the width of one of the two.

    A layer that is gone costs what it costs when one of its groups is empty. So that group is taken as empty where the
    gate is, if a layer has just these two for its channels: then the programme has their widths as pairs already.

    Returns:
        whether it could be.
    """
    near = [name for name in layer.names if links[frozenset({gate, name})]]
    for name in sorted(near, key=lambda name: sum(count for names, count in links.items() if name in names)):
        other = next(one for one in layer.names if one != name)
        chosen = programme.gated(name, gate)
        grid = {name: programme.widths[chosen][:, None], other: programme.widths[other][None, :]}
        us = np.broadcast_to(layer.us(grid), (len(programme.widths[chosen]), len(programme.widths[other])))
        if np.allclose(layer.us({**grid, gate: np.zeros(1)}), us[:1]):
            time.add(programme.pair(chosen, other), us)
            return True
    return False


def _many(programme: Programme, time: Terms, layer: _Layer) -> None:
    """Add a layer whose channels are of many groups."""
    ins, outs = set(layer.cin.parts), set(layer.cout.parts)
    into_one = len(outs) <= 1 and not outs & ins
    if programme.by_sums and into_one:
        _summed_in(programme, time, layer)
    elif programme.by_sums and ins <= outs:
        _summed_through(programme, time, layer)
    elif into_one:
        _many_in(programme, time, layer)
    else:
        _linear(programme, time, layer)


def _summed_in(programme: Programme, time: Terms, layer: _Layer) -> None:
    """Add a layer that many groups flow into, by their sum."""
    out = list(layer.cout.parts)
    sizes, cells = programme.joint(layer.cin, out)
    outs = _size(layer.cout, {name: programme.widths[name] for name in out})
    us = layer.table.row_us(layer.row, sizes[:, None] if out else sizes, outs, {})
    time.add(cells, np.broadcast_to(us, cells.shape))


def _summed_through(programme: Programme, time: Terms, layer: _Layer) -> None:
    """Add what many groups come out of, by their sum: a norm, or a concatenation.

    What comes in of a concatenation is its first part: as much of that as of the whole is taken to be there.
    """
    (least_in, most_in), (least, most) = programme.range(layer.cin), programme.range(layer.cout)
    sizes, cells = programme.joint(layer.cout, [])
    ins = least_in + (sizes - least) * (most_in - least_in) / (most - least)
    time.add(cells, layer.table.row_us(layer.row, ins, sizes, {}))


def _many_in(programme: Programme, time: Terms, layer: _Layer) -> None:
    """Add a layer that many groups flow into: affine in what comes in, for each output width."""
    name = next(iter(layer.cout.parts), None)
    outs = _size(layer.cout, {name: programme.widths[name]} if name else {}).reshape(-1)
    low, high = programme.range(layer.cin)
    marks = np.linspace(low, high, _SLOPE_POINTS)
    times = layer.table.row_us(layer.row, marks[:, None], outs[None, :], {})
    slopes, starts = np.polyfit(marks - low, times, 1)
    if name is None:
        time.constant += float(starts[0])
        for group, each in layer.cin.parts.items():
            choices = programme.widths[group]
            time.add(programme.chosen(group), slopes[0] * each * (choices - choices[0]))
        return
    time.add(programme.chosen(name), starts)
    time.add(programme.inflow(layer.cin, name), slopes)


def _linear(programme: Programme, time: Terms, layer: _Layer) -> None:
    """Add a layer whose input and output are of many groups (a concatenation, a norm after it): affine in each."""
    cin, cout = layer.cin, layer.cout
    widths = {name: programme.widths[name] for name in layer.names}
    ends = ({name: one[at] for name, one in widths.items()} for at in (0, -1))
    least, total = (float(layer.table.row_us(layer.row, _size(cin, end), _size(cout, end), {})) for end in ends)
    each = {name: cin.parts.get(name, 0) + cout.parts.get(name, 0) for name in widths}
    reach = sum(each[name] * float(one[-1] - one[0]) for name, one in widths.items())
    time.constant += least
    for name, choices in widths.items():
        time.add(programme.chosen(name), (total - least) / max(reach, 1.0) * (choices - choices[0]) * each[name])
