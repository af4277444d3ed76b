"""A plan's latency, predicted from the table, and how far the prediction may be off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import nnls

from edgeprune.errors import TableError
from edgeprune.graph.conditions import ALWAYS, Condition, either, holds
from edgeprune.graph.layers import JOINS, PRODUCTS, Axis, EngineNode, Family, LayerKey
from edgeprune.latency.network import NetworkRecord, Row
from edgeprune.latency.table import LatencyTable, Source

_FOLDS = 4
_FOLDS_LEAST = 3


@dataclass(frozen=True)
class CostRow:
    """One row of a network's table: a primitive of the engine, with its size as a function of the widths.

    Attributes:
        nodes: the ONNX nodes that it computes.
        op: their operators.
        anchor: the node that does the work.
        joins: it joins two tensors (Add, Sub, Mul), which still has to run where one of them has become a constant.
        charged: when it costs anything; what other groups than its own may take away from it.
    """

    nodes: tuple[str, ...]
    op: str
    anchor: EngineNode
    joins: bool = False
    charged: Condition = ALWAYS

    @property
    def name(self) -> str:
        """The module that does the work."""
        return self.anchor.name

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Channels that come in, channels that go out."""
        return self.anchor.cin, self.anchor.cout

    @property
    def family(self) -> Family:
        """What it has in common with the rows on the same staircase."""
        return self.op, self.anchor.detail, self.anchor.size

    def key(self, widths: Mapping[str, int]) -> LayerKey:
        """Return what decides the row's time at `widths`."""
        return self.anchor.key(widths, self.op)

    @property
    def groups(self) -> frozenset[str]:
        """The groups that its time depends on."""
        return frozenset().union(*(axis.parts for axis in self.axes), *self.charged)

    def runs(self, cin: Any, cout: Any, widths: Mapping[str, Any]) -> Any:
        """Return where something is left to run.

        Args:
            cin: channels that come in, a number or an array.
            cout: channels that go out.
            widths: group -> width, numbers or arrays; groups that are left out have channels.
        """
        return (np.asarray(cout) > 0) & ((np.asarray(cin) > 0) | self.joins) & holds(self.charged, widths)


@dataclass(frozen=True)
class Prediction:
    """A predicted latency.

    Attributes:
        ms: end to end.
        low_ms: lower end of the band that held 90 % of the networks left out of the fit.
        high_ms: its upper end.
        coverage: share of the predicted time that rests on measured entries.
    """

    ms: float
    low_ms: float
    high_ms: float
    coverage: float


@dataclass(frozen=True, eq=False)
class NetworkTable:
    """The latency table of one network: its rows, and end-to-end prediction at any widths.

    Engine = fixed + scale x sum of rows: the fixed part and the scale are fitted to the networks that were timed whole.

    Attributes:
        table: all that is known of the fingerprint.
        network: the network's signature.
        nodes: the exported network's nodes by name.
    """

    table: LatencyTable
    network: str
    nodes: Mapping[str, EngineNode]

    @cached_property
    def records(self) -> list[NetworkRecord]:
        """What was measured of this network at several widths, oldest first."""
        return self.table.of(self.network)

    @cached_property
    def dense(self) -> NetworkRecord:
        """The dense network's record.

        Raises:
            TableError: the dense network was not measured.
        """
        if not self.records:
            raise TableError("the table has no measurement of this network", remedy="run: edgeprune profile")
        return max(self.records, key=lambda record: sum(record.widths.values()))

    @cached_property
    def rows(self) -> tuple[CostRow, ...]:
        """The dense engine's primitives in the order of execution."""
        return tuple(self._row(row) for row in self.dense.rows)

    def _row(self, row: Row) -> CostRow:
        anchor = anchor_of(row.nodes, self.nodes)
        members = [self.nodes[name] for name in row.nodes if name in self.nodes]
        joins = [node for node in members if node.op in JOINS]
        works = either(one.works for one in ([anchor, *joins] if anchor.op in PRODUCTS else joins or members))
        left = either(one.lives for one in joins if one.op != "Mul")  # a factor always goes into weights
        if not self._seen_folded(set(row.nodes), left, works):
            works = either([works, left])
        return CostRow(row.nodes, row.key.op, anchor, bool(joins), works)

    def _seen_folded(self, nodes: set[str], left: Condition, works: Condition) -> bool:
        """Whether a sum with constants was built in some networks, and its nodes were no primitive of any of them."""
        built = [one for one in self.records if holds(left, one.widths) and not holds(works, one.widths)]
        return bool(built) and not any(set(row.nodes) <= nodes for one in built for row in one.rows if row.nodes)

    def rows_of(self, group: str) -> list[CostRow]:
        """Return the rows whose time depends on a group's width."""
        return self._rows_by_group.get(group, [])

    @cached_property
    def _rows_by_group(self) -> dict[str, list[CostRow]]:
        found: dict[str, list[CostRow]] = {}
        for row in self.rows:
            for name in row.groups:
                found.setdefault(name, []).append(row)
        return found

    def row_us(self, row: CostRow, cin: np.ndarray, cout: np.ndarray, widths: Mapping[str, Any]) -> np.ndarray:
        """Return a row's microseconds as part of the whole engine; see `CostRow.runs`."""
        staircase = self.table.staircase(row.family)
        assert staircase is not None, "the rows are those of the dense network, which is in the table"
        return np.where(row.runs(cin, cout, widths), staircase(cin, cout), 0.0) * self.scale

    def group_us(self, group: str, widths: Mapping[str, Any], count: int) -> np.ndarray:
        """Return the microseconds, as parts of the whole engine, of all rows whose time depends on a group.

        Args:
            group: whose rows.
            widths: group -> one width, or `count` of them.
            count: for how many widths.
        """
        return np.asarray(self._counted_us(self.rows_of(group), widths, count).sum(axis=0) * self.scale)

    @property
    def scale(self) -> float:
        """Engine time for each microsecond of layer time."""
        return self._calibration[0]

    @property
    def fixed_us(self) -> float:
        """Engine time that no row explains."""
        return self._calibration[1]

    def predict(self, widths: Mapping[str, int]) -> Prediction:
        """Return the latency at `widths` (group -> channels kept; others are whole) with its band."""
        us = self._rows_us([widths])[:, 0]
        known = us[[self._source(row, widths) == "measured" for row in self.rows]]
        ms = float(self.fixed_us + self.scale * us.sum()) / 1000
        return Prediction(ms, *self.band(ms), float(known.sum() / max(us.sum(), 1e-9)))

    def band(self, ms: float) -> tuple[float, float]:
        """Return what a predicted latency stays between, by `error`."""
        return ms / (1 + self.error), ms * (1 + self.error)

    def predict_ms(self, widths: Sequence[Mapping[str, int]]) -> np.ndarray:
        """Return the latency at each of several widths, in ms."""
        return np.asarray(self.fixed_us + self.scale * self._rows_us(widths).sum(axis=0)) / 1000

    def layers(self, widths: Mapping[str, int]) -> list[tuple[CostRow, float, Source]]:
        """Return each row with its predicted microseconds and how they are known; as `predict`."""
        us = self._rows_us([widths])[:, 0] * self.scale
        return [(row, float(one), self._source(row, widths)) for row, one in zip(self.rows, us, strict=True)]

    @cached_property
    def error(self) -> float:
        """What 90 % of the held-out networks stayed within: 0.1 is a factor of 1.1, up or down."""
        if not self.held_out:
            return 0.25
        ratios = np.array([predicted / measured for predicted, measured in self.held_out])
        return float(np.quantile(np.maximum(ratios, 1 / ratios) - 1, 0.9))

    @cached_property
    def held_out(self) -> list[tuple[float, float]]:
        """(Predicted, measured) ms of networks that the fit has not seen, fold by fold; none where there are few."""
        folds = min(_FOLDS, len(self.records) // 2)
        if folds < _FOLDS_LEAST:
            return []
        found: list[tuple[float, float]] = []
        for fold in range(folds):
            held = [record for at, record in enumerate(self.records) if at % folds == fold and record is not self.dense]
            rest = NetworkTable(self.table.without(held), self.network, self.nodes)
            predicted = rest.predict_ms([one.widths for one in held])
            found += [(float(ms), one.engine_ms) for ms, one in zip(predicted, held, strict=True)]
        return found

    @cached_property
    def _calibration(self) -> tuple[float, float]:
        sums = self._rows_us([record.widths for record in self.records]).sum(axis=0)
        engines = np.array([record.engine_ms * 1000 for record in self.records])
        if len(sums) < 4:
            return float(engines[0] / max(sums[0], 1e-9)), 0.0
        solution = nnls(np.stack([sums, np.ones_like(sums)], axis=1) / engines[:, None], np.ones_like(sums))[0]
        return float(solution[0]), float(solution[1])

    def _rows_us(self, widths: Sequence[Mapping[str, int]]) -> np.ndarray:
        """Return every row's microseconds at each of the widths, as the per-layer clocks count: (rows, widths)."""
        whole = self.dense.widths
        many = {group: np.array([one.get(group, whole[group]) for one in widths]) for group in whole}
        return self._counted_us(self.rows, many, len(widths))

    def _counted_us(self, rows: Sequence[CostRow], widths: Mapping[str, Any], count: int) -> np.ndarray:
        """Return some rows' microseconds, as the per-layer clocks count, at `count` widths of each group, or at one.

        Each family's staircase is asked once: that is what takes the time.
        """
        families: dict[Family, list[int]] = {}
        for at, row in enumerate(rows):
            families.setdefault(row.family, []).append(at)
        us = np.zeros((len(rows), count))
        for family, members in families.items():
            staircase = self.table.staircase(family)
            if staircase is None:
                continue
            cin, cout, runs = (np.zeros((len(members), count)) for _ in range(3))
            for at, member in enumerate(members):
                row = rows[member]
                cin[at], cout[at] = (axis.widths(widths) for axis in row.axes)
                runs[at] = row.runs(cin[at], cout[at], widths)
            us[members] = np.where(runs, staircase(cin, cout), 0.0)
        return us

    def _source(self, row: CostRow, widths: Mapping[str, int]) -> Source:
        key = row.key({**self.dense.widths, **widths})
        return self.table.source(key) if row.runs(key.cin, key.cout, widths) else "measured"  # nothing is left to run


def anchor_of(nodes: Sequence[str], known: Mapping[str, EngineNode]) -> EngineNode:
    """Return the node that does the work of a fused primitive: the one with weights, else the first."""
    found = [known[name] for name in nodes if name in known]
    return next((node for node in found if node.op in PRODUCTS), found[0])
