"""A plan's latency, predicted from the table, and how far the prediction may be off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import nnls

from edgeprune.errors import TableError
from edgeprune.graph.layers import Axis, EngineNode, LayerKey
from edgeprune.latency.table import Entry, LatencyTable, NetworkRecord, Source

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_JOINS = ("Add", "Sub", "Mul")
_FOLDS = 4


@dataclass(frozen=True)
class CostRow:
    """One row of a network's table: a primitive of the engine, with its size as a function of the widths.

    Attributes:
        nodes: the ONNX nodes that it computes.
        op: their operators.
        anchor: the node that does the work.
        joins: it joins two tensors, which is left to do where one of them has become a constant.
    """

    nodes: tuple[str, ...]
    op: str
    anchor: EngineNode
    joins: bool = False

    @property
    def name(self) -> str:
        """The module that does the work."""
        return self.anchor.name

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Channels that come in, channels that go out."""
        return self.anchor.cin, self.anchor.cout

    def key(self, widths: Mapping[str, int]) -> LayerKey:
        """Return what decides the row's time at `widths`."""
        return self.anchor.key(widths, self.op)


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
        """The measured networks of this family, oldest first."""
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
        return tuple(
            CostRow(
                row.nodes,
                row.key.op,
                anchor_of(row.nodes, self.nodes),
                any(self.nodes[name].op in _JOINS for name in row.nodes if name in self.nodes),
            )
            for row in self.dense.rows
        )

    def row_us(self, row: CostRow, cin: np.ndarray, cout: np.ndarray) -> np.ndarray:
        """Return a row's microseconds at channel counts `cin`, `cout` (broadcast), as part of the whole engine."""
        anchor = row.anchor
        staircase = self.table.staircase((row.op, anchor.detail, anchor.size))
        assert staircase is not None
        there = (np.asarray(cout) > 0) & ((np.asarray(cin) > 0) | row.joins)
        return np.where(there, staircase(cin, cout), 0.0) * self.scale

    @property
    def scale(self) -> float:
        """Engine time for each microsecond of layer time."""
        return self._calibration[0]

    @property
    def fixed_us(self) -> float:
        """Engine time that no row explains."""
        return self._calibration[1]

    def predict(self, widths: Mapping[str, int]) -> Prediction:
        """Return the latency at `widths` (group -> channels kept) with its band."""
        entries = [self._entry(row, widths) for row in self.rows]
        total = sum(entry.us for entry in entries)
        measured = sum(entry.us for entry in entries if entry.source == "measured")
        ms = (self.fixed_us + self.scale * total) / 1000
        return Prediction(ms, ms / (1 + self.error), ms * (1 + self.error), measured / total if total else 0.0)

    def layers(self, widths: Mapping[str, int]) -> list[tuple[CostRow, float, Source]]:
        """Return each row with its predicted microseconds and how they are known."""
        found = []
        for row in self.rows:
            entry = self._entry(row, widths)
            found.append((row, entry.us * self.scale, entry.source))
        return found

    @cached_property
    def error(self) -> float:
        """Relative error that 90 % of the held-out networks stayed within (four folds)."""
        if len(self.records) < 2 * _FOLDS:
            return 0.25
        errors: list[float] = []
        for fold in range(_FOLDS):
            held = [
                record for at, record in enumerate(self.records) if at % _FOLDS == fold and record is not self.dense
            ]
            rest = NetworkTable(self.table.without(held), self.network, self.nodes)
            for record in held:
                ms = (rest.fixed_us + rest.scale * rest._rows_us(record.widths)) / 1000
                errors.append(abs(ms / record.engine_ms - 1))
        return float(np.quantile(errors, 0.9))

    @cached_property
    def _calibration(self) -> tuple[float, float]:
        sums = np.array([self._rows_us(record.widths) for record in self.records])
        engines = np.array([record.engine_ms * 1000 for record in self.records])
        if len(sums) < 4:
            return float(engines[0] / max(sums[0], 1e-9)), 0.0
        solution = nnls(np.stack([sums, np.ones_like(sums)], axis=1) / engines[:, None], np.ones_like(sums))[0]
        return float(solution[0]), float(solution[1])

    def _rows_us(self, widths: Mapping[str, int]) -> float:
        return sum(self._entry(row, widths).us for row in self.rows)

    def _entry(self, row: CostRow, widths: Mapping[str, int]) -> Entry:
        key = row.key(widths)
        if key.cout == 0 or (key.cin == 0 and not row.joins):
            return Entry(0.0, "measured")  # nothing is left to run
        return self.table.lookup(key)


def anchor_of(nodes: Sequence[str], known: Mapping[str, EngineNode]) -> EngineNode:
    """Return the node that does the work of a fused primitive: the one with weights, else the first."""
    found = [known[name] for name in nodes if name in known]
    return next((node for node in found if node.op in _WEIGHTED), found[0])
