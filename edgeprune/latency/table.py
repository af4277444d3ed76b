"""LatencyTable: what layers cost on one fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from edgeprune.graph.layers import PRODUCTS, Family, LayerKey
from edgeprune.latency.fusion import alike
from edgeprune.latency.network import NetworkRecord
from edgeprune.latency.staircase import Staircase
from edgeprune.targets.target import Fingerprint

Source = Literal["measured", "interpolated", "assumed"]


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """The layers' costs on one fingerprint, from all networks that were timed on it."""

    fingerprint: Fingerprint
    records: tuple[NetworkRecord, ...] = ()
    _fits: dict[Family, Staircase] = field(default_factory=dict, repr=False)

    def of(self, network: str) -> list[NetworkRecord]:
        """Return the records of one network, oldest first; a plan that was timed again has its last record alone."""
        return [record for record in self.current if record.network == network]

    def staircase(self, family: Family) -> Callable[[Any, Any], np.ndarray] | None:
        """Return a family's fitted cost over (cin, cout), or None where none of its kin was measured."""
        form, kin = family[0], _kin(family)
        if kin not in self._fits:
            if kin not in self._samples:
                return None
            self._fits[kin] = Staircase.fit(self._samples[kin], multiplies=_multiplies(kin))
        return partial(self._fits[kin], form)

    def source(self, key: LayerKey) -> Source:
        """Return how a layer's cost is known: assumed where a width lies outside those measured in its family."""
        at = key.cin, key.cout
        known = self._widths.get(key.family)
        if not known:
            return "assumed"
        if at in known:
            return "measured"
        spanned = all(
            min(widths) <= width <= max(widths) for width, widths in zip(at, zip(*known, strict=True), strict=True)
        )
        return "interpolated" if spanned else "assumed"

    def without(self, left_out: Iterable[NetworkRecord]) -> LatencyTable:
        """Return the table without some plans, named by their last records, for a fit that has not seen them."""
        gone = {id(record) for record in left_out}
        return LatencyTable(self.fingerprint, tuple(one for one in self.current if id(one) not in gone))

    @cached_property
    def current(self) -> list[NetworkRecord]:
        """The last record of every plan of every network, oldest first."""
        last = {(record.network, tuple(sorted(record.widths.items()))): record for record in self.records}
        return list(last.values())

    @cached_property
    def _alike(self) -> list[NetworkRecord]:
        """The same, what a dense engine computes in one primitive being one row in all of its network's records."""
        return alike(self.current)

    @cached_property
    def _samples(self) -> dict[Family, list[tuple[str, int, int, float]]]:
        samples: dict[Family, list[tuple[str, int, int, float]]] = {}
        for record in self._alike:
            for row in record.rows:
                samples.setdefault(_kin(row.key.family), []).append((row.key.op, row.key.cin, row.key.cout, row.us))
        return samples

    @cached_property
    def _widths(self) -> dict[Family, set[tuple[int, int]]]:
        widths: dict[Family, set[tuple[int, int]]] = {}
        for record in self._alike:
            for row in record.rows:
                widths.setdefault(row.key.family, set()).add((row.key.cin, row.key.cout))
        return widths


def _multiplies(kin: Family) -> bool:
    """Whether each channel that comes in is computed with each that goes out."""
    return kin[0] in PRODUCTS and "depthwise" not in kin[1].split()


def _kin(family: Family) -> Family:
    """Return what a family has in common with those that differ in what is fused into the product."""
    form, detail, size = family
    return next((op for op in form.split("+") if op in PRODUCTS), form), detail, size
