from __future__ import annotations

from edgeprune.graph.layers import LayerKey
from edgeprune.latency.fusion import alike
from edgeprune.latency.network import NetworkRecord, Row


def row(op: str, nodes: str, cout: int, us: float) -> Row:
    return Row(tuple(nodes.split()), LayerKey(op, "detail of " + nodes.split()[0], (8, 8), 4, cout), us)


def record(network: str, width: int, *rows: Row) -> NetworkRecord:
    return NetworkRecord(network, {"group": width}, 1.0, 0.0, rows, 0.0)


DENSE = record("net", 16, row("Conv+Add+Relu", "conv add relu", 16, 9.0), row("Gemm", "fc", 10, 1.0))


def test_what_the_dense_engine_fuses_is_one_row_everywhere() -> None:
    # 5 + 2 + 1 us, with the widths of the convolution, the anchor, and the form of the dense row.
    split = record(
        "net", 5, row("Add", "add", 5, 2.0), row("Conv", "conv", 5, 5.0), row("Relu", "relu", 5, 1.0), DENSE.rows[1]
    )
    dense, found = alike([DENSE, split])
    assert dense == DENSE
    assert found.rows == (
        Row(("conv", "add", "relu"), LayerKey("Conv+Add+Relu", "detail of conv", (8, 8), 4, 5), 8.0),
        DENSE.rows[1],
    )


def test_what_is_fused_otherwise_stays_as_it_is() -> None:
    # One primitive over two rows of the dense engine, and one whose node the dense engine has not at all.
    other = record("net", 5, row("Conv+Gemm", "conv fc", 5, 3.0), row("Relu", "unknown", 5, 1.0))
    assert alike([other, DENSE]) == [other, DENSE]


def test_each_network_has_a_dense_engine_of_its_own() -> None:
    split = record("other", 8, row("Conv", "conv", 8, 5.0), row("Add", "add", 8, 2.0))
    assert alike([DENSE, split]) == [DENSE, split]
