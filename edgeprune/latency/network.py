"""What is kept of one whole network that was built and timed: its latency end to end, and every layer's in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgeprune.graph.layers import LayerKey

SCHEMA = "edgeprune.network/1"


@dataclass(frozen=True)
class Row:
    """The time of one primitive of a network that was built: `nodes` are the ONNX nodes that it computes."""

    nodes: tuple[str, ...]
    key: LayerKey
    us: float


@dataclass(frozen=True)
class NetworkRecord:
    """One network, built and timed whole.

    Attributes:
        network: signature of the dense network that the widths belong to.
        widths: group -> channels kept.
        engine_ms: median latency end to end, without a profiler.
        spread: relative spread of its samples.
        rows: per-layer times, measured in place.
        inserted_us: time in what the runtime inserted (reorders, converts), where no row has it.
        p90_ms: 90th percentile over all samples; None where it was not kept.
        min_ms: the fastest sample, likewise.
        samples: how many there were, likewise.
        rounds: in how many rounds, likewise.
        settled: its latency is one of a session in which networks took turns: all of its table's, or the closed loop's.
        samples_ms: all of them, in order, right after it was timed; the store keeps them beside the records.
    """

    network: str
    widths: Mapping[str, int]
    engine_ms: float
    spread: float
    rows: tuple[Row, ...]
    inserted_us: float
    p90_ms: float | None = None
    min_ms: float | None = None
    samples: int | None = None
    rounds: int | None = None
    settled: bool = False
    samples_ms: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def scaled(self, factor: float) -> NetworkRecord:
        """Return the record as of a machine on which everything takes `factor` times as long."""
        rows = tuple(replace(row, us=row.us * factor) for row in self.rows)
        return replace(
            self,
            rows=rows,
            samples_ms=tuple(sample * factor for sample in self.samples_ms),
            engine_ms=self.engine_ms * factor,
            inserted_us=self.inserted_us * factor,
            p90_ms=None if self.p90_ms is None else self.p90_ms * factor,
            min_ms=None if self.min_ms is None else self.min_ms * factor,
        )

    @property
    def layers_us(self) -> float:
        """Sum of the named layers' times."""
        return sum(row.us for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return the record as one JSON object; keys that repeat are not shortened: a person may read it."""
        return {
            "schema": SCHEMA,
            "network": self.network,
            "widths": dict(self.widths),
            "engine_ms": self.engine_ms,
            "spread": self.spread,
            "p90_ms": self.p90_ms,
            "min_ms": self.min_ms,
            "samples": self.samples,
            "rounds": self.rounds,
            "settled": self.settled,
            "inserted_us": self.inserted_us,
            "rows": [
                {
                    "nodes": list(row.nodes),
                    "op": row.key.op,
                    "detail": row.key.detail,
                    "size": list(row.key.size),
                    "cin": row.key.cin,
                    "cout": row.key.cout,
                    "us": round(row.us, 3),
                }
                for row in self.rows
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> NetworkRecord:
        """Read what `to_json` returned."""
        rows = tuple(
            Row(
                tuple(row["nodes"]),
                LayerKey(row["op"], row["detail"], tuple(row["size"]), row["cin"], row["cout"]),
                row["us"],
            )
            for row in content["rows"]
        )
        return cls(
            content["network"],
            content["widths"],
            content["engine_ms"],
            content["spread"],
            rows,
            content["inserted_us"],
            p90_ms=content.get("p90_ms"),
            min_ms=content.get("min_ms"),
            samples=content.get("samples"),
            rounds=content.get("rounds"),
            settled=content.get("settled", False),
        )
