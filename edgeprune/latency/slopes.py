"""What a network's latency is at any widths, and what one more channel adds: what LAPP's thresholds are pressed by."""

from __future__ import annotations

from collections.abc import Mapping

from edgeprune.graph.conditions import holds
from edgeprune.latency.predict import CostRow, NetworkTable

WINDOW = 8
"""Channels to either side over which a slope is taken: a staircase is flat but for its steps."""


class LatencyCost:
    """Predicted latency as a share of `dense_ms`, with slopes.

    A row's slope is that of the secant of its measured staircase over `WINDOW` channels to either side, so that a step
    is felt before it is reached. Each point of each row is worked out once.

    Args:
        table: of the network whose widths are asked about.
        dense_ms: what a share of 1 means, where the table's dense network takes what the table says.
    """

    def __init__(self, table: NetworkTable, dense_ms: float) -> None:
        self._table = table
        self._dense_ms = dense_ms
        self._full = dict(table.dense.widths)
        self._known: dict[tuple[int, int, int], tuple[float, float, float]] = {}

    def __call__(self, widths: Mapping[str, int]) -> tuple[float, Mapping[str, float]]:
        """Return the share at `widths` (group -> channels; others are whole), and what a channel more adds to it."""
        whole = {**self._full, **widths}
        total = self._table.fixed_us
        slopes = dict.fromkeys(widths, 0.0)
        for number, row in enumerate(self._table.rows):
            if not holds(row.charged, whole):
                continue
            cin, cout = row.axes
            us, by_in, by_out = self._point(number, row, cin.width(whole), cout.width(whole))
            total += self._table.scale * us
            for axis, slope in ((cin, by_in), (cout, by_out)):
                for group, each in axis.parts.items():
                    if group in slopes:
                        slopes[group] += self._table.scale * each * slope
        scale = 1 / (1000 * self._dense_ms)
        return total * scale, {group: slope * scale for group, slope in slopes.items()}

    def _point(self, number: int, row: CostRow, cin: int, cout: int) -> tuple[float, float, float]:
        """Return a row's microseconds, and how they grow by a channel that comes in, and by one that goes out."""
        key = (number, cin, cout)
        if key not in self._known:
            staircase = self._table.table.staircase(row.key(self._full).family)
            most = [axis.width(self._full) for axis in row.axes]
            if staircase is None or not row.runs(cin, cout, {}):
                self._known[key] = (0.0, 0.0, 0.0)
            else:
                ins, outs = _around(cin, most[0]), _around(cout, most[1])
                us = staircase([cin, *ins, cin, cin], [cout, cout, cout, *outs])
                by_in = float(us[2] - us[1]) / max(1, ins[1] - ins[0])
                by_out = float(us[4] - us[3]) / max(1, outs[1] - outs[0])
                self._known[key] = (float(us[0]), by_in, by_out)
        return self._known[key]


def _around(width: int, most: int) -> tuple[int, int]:
    return max(1, width - WINDOW), min(most, width + WINDOW)
