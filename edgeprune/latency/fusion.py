"""Records of one network in one form: what its dense engine computes in one primitive is one row in all of them.

A runtime fuses where the widths allow it. ONNX Runtime leaves an addition and an activation behind a convolution to
primitives of their own where the layout is not in blocks, so that a row of the dense engine is three rows elsewhere.
What it takes is predicted by one staircase, and that is learned from what the three take together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgeprune.graph.layers import PRODUCTS
from edgeprune.latency.network import NetworkRecord, Row


def alike(records: Iterable[NetworkRecord]) -> list[NetworkRecord]:
    """Return records with rows as in the dense one of their network, which is the widest; the order stays."""
    found = list(records)
    dense: dict[str, NetworkRecord] = {}
    for one in found:
        widest = dense.setdefault(one.network, one)
        if sum(one.widths.values()) > sum(widest.widths.values()):
            dense[one.network] = one
    owners = {name: {node: row for row in one.rows for node in row.nodes} for name, one in dense.items()}
    return [replace(one, rows=tuple(_fused(one.rows, owners[one.network]))) for one in found]


def _fused(rows: Iterable[Row], owner: dict[str, Row]) -> Iterable[Row]:
    """Yield rows, those that lie in one row of the dense engine as one; what lies in several stays as it is."""
    parts: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        within = {owner[node].nodes if node in owner else () for node in row.nodes}
        whole = within.pop() if len(within) == 1 else ()
        parts.setdefault(whole or row.nodes, []).append(row)
    for nodes, those in parts.items():
        if len(those) == 1:
            yield those[0]
            continue
        anchor = next((one for one in those if not set(PRODUCTS).isdisjoint(one.key.op.split("+"))), those[0])
        op = owner[nodes[0]].key.op
        yield Row(nodes, replace(anchor.key, op=op), sum(one.us for one in those))
