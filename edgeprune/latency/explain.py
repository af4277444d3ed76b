"""What a layer costs at each width: its staircase, the steps on it, and which channels are free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeprune.errors import InputError, nearest
from edgeprune.latency.predict import CostRow, NetworkTable

WORTH = 0.02
"""A step is at least by this share faster than the one above it."""


@dataclass(frozen=True)
class Stair:
    """A width that no other one undercuts: as many channels as its time buys.

    Attributes:
        width: channels.
        us: microseconds.
        source: how the time is known.
        least: the narrowest width that costs as much or more, or too little less to be a step of its own.
        dearest_us: what the widths from `least` on cost at most; above `us`, less costs more.
    """

    width: int
    us: float
    source: str
    least: int
    dearest_us: float


def explained(table: NetworkTable, module: str, drift: float = 1.0) -> dict[str, Any]:
    """Return a layer's staircase as JSON, all other groups dense.

    Args:
        table: what the network's layers cost.
        module: its name, or that of a layer that is computed together with it.
        drift: factor from the table's times to those of now.

    Raises:
        InputError: no layer of the engine is named so; the nearest name is suggested.
    """
    row = _row_of(table, module)
    cin, cout = row.axes
    axis = cout if cout.parts else cin
    full = dict(table.dense.widths)
    found: dict[str, Any] = {"module": module, "layer": row.name, "op": row.op, "of": axis.width(full)}
    if not axis.parts:
        always = float(table.row_us(row, np.array(cin.fixed), np.array(cout.fixed), {})) * drift
        return {**found, "group": None, "side": None, "widths": [], "us": [always], "timed": [], "steps": []}
    group = max(axis.parts, key=lambda name: axis.parts[name])
    widths = np.arange(1, full[group] + 1)
    many = {**{name: np.array(width) for name, width in full.items()}, group: widths}
    us = np.broadcast_to(table.row_us(row, cin.widths(many), cout.widths(many), many), widths.shape) * drift
    sources = [table.table.source(row.key({**full, group: int(width)})) for width in widths]
    return {
        **found,
        "group": group,
        "side": "output" if cout.parts else "input",
        "widths": widths.tolist(),
        "us": [round(float(one), 3) for one in us],
        "timed": sorted({record.widths[group] for record in table.records} & set(widths.tolist())),
        "steps": [asdict(one) for one in steps(us, sources)],
    }


def steps(us: np.ndarray, sources: Sequence[str]) -> list[Stair]:
    """Return the steps of the times of 1, 2, 3 ... channels, the widest first."""
    found: list[Stair] = []
    for width in range(len(us), 0, -1):
        time = float(us[width - 1])
        if found and time > (1 - WORTH) * found[-1].us:
            last = found[-1]
            found[-1] = Stair(last.width, last.us, last.source, width, max(last.dearest_us, round(time, 3)))
        else:
            found.append(Stair(width, round(time, 3), sources[width - 1], width, round(time, 3)))
    return found


def _row_of(table: NetworkTable, module: str) -> CostRow:
    known = {name: row for row in table.rows for name in (*row.nodes, row.name)}
    if module not in known:
        raise InputError(
            f"no layer of the engine is named {module!r}{nearest(module, known)}",
            remedy="`edgeprune profile --verbose` lists them",
        )
    return known[module]
