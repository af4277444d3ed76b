from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.graph.layers import LayerKey
from edgeprune.latency.network import NetworkRecord, Row
from edgeprune.latency.store import TableStore
from edgeprune.latency.table import LatencyTable
from edgeprune.targets.target import Fingerprint

HERE = Fingerprint({"runtime": "openvino", "precision": "fp32", "threads": "1"})
THERE = Fingerprint({"runtime": "openvino", "precision": "bf16", "threads": "1"})


def record(width: int = 8, us: float = 3.0, network: str = "net") -> NetworkRecord:
    row = Row(("conv", "relu"), LayerKey("Conv+Relu", "kernel_shape=3x3", (8, 8), 4, width), us)
    return NetworkRecord(network, {"conv": width}, 0.01, 0.002, (row,), 0.5)


def test_what_was_added_is_there_for_the_next_run(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    table = store.add(store.load(HERE), record(8))
    table = store.add(table, record(16))
    assert table.records == (record(8), record(16))
    assert TableStore(tmp_path).load(HERE).records == table.records


def test_another_fingerprint_has_another_table(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    store.add(store.load(HERE), record())
    assert store.load(THERE).records == ()


def test_a_write_torn_by_a_kill_loses_that_record_alone(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    store.add(store.load(HERE), record(8))
    path = store.folder(HERE) / "networks.jsonl"
    whole = path.read_bytes()
    store.add(store.load(HERE), record(16))
    path.write_bytes(path.read_bytes()[: len(whole) + 40])
    assert store.load(HERE).records == (record(8),)
    store.add(store.load(HERE), record(24))
    assert store.load(HERE).records == (record(8), record(24))


def test_a_time_says_how_it_is_known() -> None:
    table = LatencyTable(HERE, (record(8, 3.0), record(16, 6.0)))
    key = record(8).rows[0].key
    staircase = table.staircase(key.family)
    assert staircase is not None
    assert float(staircase(4, 8)) == pytest.approx(3.0, rel=0.1)
    assert table.source(key) == "measured"
    assert table.source(replace(key, cout=12)) == "interpolated"
    for cin, cout in ((4, 7), (4, 17), (3, 12), (5, 12)):  # measured: (4, 8) and (4, 16)
        assert table.source(replace(key, cin=cin, cout=cout)) == "assumed"
    assert table.source(LayerKey("MaxPool", "", (8, 8), 4, 4)) == "assumed"


def test_what_is_left_out_is_gone_with_what_was_measured_of_it_before() -> None:
    before, other, now = record(8, 3.0), record(16, 6.0), record(8, 4.0)
    table = LatencyTable(HERE, (before, other, now))
    assert table.of("net") == [now, other]
    assert table.without([now]).records == (other,)


def test_one_network_is_told_from_another() -> None:
    table = LatencyTable(HERE, (record(network="a"), record(network="b")))
    assert [one.network for one in table.of("b")] == ["b"]


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.integers(1, 4096), st.integers(1, 4096), st.integers(0, 10**9)), max_size=5
    )
)
def test_records_round_trip(rows: list[tuple[str, int, int, int]]) -> None:
    made = NetworkRecord(
        "net",
        {"group": 3},
        1.25,
        0.01,
        tuple(Row((name,), LayerKey("Conv", name, (7, 7), cin, cout), us / 1000) for name, cin, cout, us in rows),
        0.0,
    )
    assert NetworkRecord.from_json(made.to_json()) == made
