"""What a device that can't be reached is taken to be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from edgeprune.errors import MissingError, UnreachableError
from edgeprune.latency.absent import absence_of, absent_bench, remember
from edgeprune.latency.bench import Bench, open_bench, settings_of
from edgeprune.latency.store import TableStore
from edgeprune.targets.local import LocalDevice
from edgeprune.targets.target import Fingerprint, find_target
from tests.latency.test_store import record

WHY = UnreachableError("the board is off", remedy="switch it on")
BOARD = {"runtime": "openvino", "precision": "fp32", "threads": "1", "processor": "of the board"}


def known(store: TableStore, **changes: str) -> Fingerprint:
    """The fingerprint of a table that the store has."""
    fingerprint = Fingerprint({**BOARD, **changes})
    store.add(store.load(fingerprint), record(1))
    return fingerprint


def absent(store: TableStore, asked: Mapping[str, int] | None = None) -> Bench:
    threads = (asked or {}).get("threads", 1)
    return absent_bench("openvino", "ssh://me@board", None, threads, store, WHY)


def test_it_is_what_it_was_when_it_was_last_there(tmp_path: Path) -> None:
    store, target = TableStore(tmp_path), find_target("openvino")
    for version in ("1", "2"):
        fingerprint = known(store, runtime_version=version)
        device = LocalDevice()
        device.name = "ssh://me@board"
        remember(store, Bench(target, device, settings_of(target, None, 1), fingerprint))
    found = absent(store)
    assert found.fingerprint()["runtime_version"] == "2"
    assert absence_of(found) is WHY
    with pytest.raises(UnreachableError, match="the board is off"):
        found.build(b"")
    assert len((tmp_path / "devices.jsonl").read_text().splitlines()) == 2
    remember(store, Bench(target, device, settings_of(target, None, 1), fingerprint))
    assert len((tmp_path / "devices.jsonl").read_text().splitlines()) == 2, "it is no news"


def test_where_it_was_never_seen_the_only_table_that_fits_stands_for_it(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    with pytest.raises(UnreachableError, match="the board is off"):
        absent(store)
    known(store, precision="bf16")
    known(store, threads="2")
    fingerprint = known(store)
    assert absent(store).fingerprint() == fingerprint
    assert absent(store, {"threads": 2}).fingerprint()["threads"] == "2"
    known(store, processor="of another board")
    with pytest.raises(MissingError, match="the board is off; 2 earlier tables fit these settings"):
        absent(store)


def test_the_table_of_another_device_does_not_stand_for_it(tmp_path: Path) -> None:
    """The laptop's own, for a board whose address was mistyped."""
    store, target = TableStore(tmp_path), find_target("openvino")
    fingerprint = known(store)
    remember(store, Bench(target, LocalDevice(), settings_of(target, None, 1), fingerprint))
    with pytest.raises(UnreachableError, match="the board is off"):
        absent(store)
    imported = known(store, processor="of the board, by --import")
    assert absent(store).fingerprint() == imported


def test_a_bench_that_is_there_is_not_absent() -> None:
    with open_bench("onnxruntime") as bench:
        assert absence_of(bench) is None
