from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import InputError, TableError
from edgeprune.graph.layers import LayerKey
from edgeprune.latency.network import NetworkRecord, Row
from edgeprune.latency.sharing import export_tables, import_tables
from edgeprune.latency.store import TableStore
from edgeprune.targets.target import Fingerprint
from tests.latency.test_table import HERE, THERE, record

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
ROWS = st.builds(
    lambda nodes, op, cin, cout, us: Row(tuple(nodes), LayerKey(op, "", (7, 7), cin, cout), us / 1000),
    st.lists(TEXTS, min_size=1, max_size=2),
    TEXTS,
    st.integers(0, 4096),
    st.integers(0, 4096),
    st.integers(0, 10**9),
)
RECORDS = st.builds(
    lambda network, widths, ms, rows: NetworkRecord(network, widths, ms / 1000, 0.01, tuple(rows), 0.5),
    TEXTS,
    st.dictionaries(TEXTS, st.integers(0, 4096), max_size=3),
    st.integers(1, 10**6),
    st.lists(ROWS, max_size=3),
)
TABLES = st.dictionaries(
    st.builds(Fingerprint, st.dictionaries(TEXTS.filter(lambda name: name != "schema"), TEXTS, max_size=3)),
    st.lists(RECORDS, min_size=1, max_size=4, unique_by=lambda one: (one.network, tuple(sorted(one.widths.items())))),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, max_examples=30)
@given(TABLES)
def test_what_was_exported_is_imported_as_it_was_and_only_once(
    tables: dict[Fingerprint, list[NetworkRecord]],
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        here, there = (TableStore(Path(scratch) / name) for name in ("here", "there"))
        for fingerprint, records in tables.items():
            assert here.merge(fingerprint, records) == len(records)
        folder = Path(scratch) / "shared"
        assert {one.fingerprint for one in export_tables(here, folder)} == set(tables)
        taken = import_tables(there, folder)
        assert sum(one.new for one in taken) == sum(map(len, tables.values()))
        for fingerprint, records in tables.items():
            assert there.load(fingerprint).records == here.load(fingerprint).records == tuple(records)
        assert [one.new for one in import_tables(there, folder)] == [0] * len(tables)


def stored(root: Path, *records: NetworkRecord, fingerprint: Fingerprint = HERE) -> TableStore:
    store = TableStore(root)
    store.merge(fingerprint, records)
    return store


def test_what_was_measured_here_stays(tmp_path: Path) -> None:
    export_tables(stored(tmp_path / "theirs", record(8, us=9.0), record(16)), tmp_path / "shared")
    ours = stored(tmp_path / "ours", record(8, us=3.0))
    (found,) = import_tables(ours, tmp_path / "shared")
    assert (found.networks, found.new) == (2, 1)
    assert ours.load(HERE).records == (record(8, us=3.0), record(16))


def test_what_comes_beside_ones_own_measurements_is_to_be_timed_beside_them(tmp_path: Path) -> None:
    theirs, other = (replace(one, settled=True) for one in (record(16), replace(record(4), network="other")))
    export_tables(stored(tmp_path / "theirs", theirs, other), tmp_path / "shared")
    ours = stored(tmp_path / "ours", replace(record(8), settled=True))
    import_tables(ours, tmp_path / "shared")
    assert [(one.network, one.settled) for one in ours.load(HERE).records] == [
        (theirs.network, True),
        (theirs.network, False),
        ("other", True),
    ]


def test_raw_samples_are_kept_beside_the_records_and_shared(tmp_path: Path) -> None:
    here, there = TableStore(tmp_path / "here"), TableStore(tmp_path / "there")
    once, again = (replace(record(2.0), samples_ms=samples) for samples in ((1.9, 2.00004), (2.1, 1.95, 2.0)))
    table = here.load(HERE)
    for one in (once, again):
        table = here.add(table, one)
    export_tables(here, tmp_path / "shared")
    shared = [
        json.loads(line) for line in (tmp_path / "shared" / HERE.digest / "samples.jsonl").read_text().splitlines()
    ]
    assert [line["samples_ms"] for line in shared] == [[1.9, 2.0], [2.1, 1.95, 2.0]]
    assert {line["schema"] for line in shared} == {"edgeprune.samples/1"}
    assert shared[0]["network"] == once.network
    assert shared[0]["widths"] == once.widths
    import_tables(there, tmp_path / "shared")
    assert there.load(HERE).records[0].samples_ms == ()


def test_tables_of_other_fingerprints_are_never_mixed(tmp_path: Path) -> None:
    export_tables(stored(tmp_path / "theirs", record(8), fingerprint=THERE), tmp_path / "shared")
    ours = stored(tmp_path / "ours", record(16))
    import_tables(ours, tmp_path / "shared")
    assert ours.load(HERE).records == (record(16),)
    assert ours.load(THERE).records == (record(8),)


def test_one_runtime_can_be_shared_alone(tmp_path: Path) -> None:
    store = stored(tmp_path / "ours", record(8))
    store.merge(Fingerprint({"runtime": "onnxruntime"}), [record(16)])
    (found,) = export_tables(store, tmp_path / "shared", "onnxruntime")
    assert found.fingerprint["runtime"] == "onnxruntime"
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [found.fingerprint.digest]
    with pytest.raises(TableError, match="no latency table of runtime tensorrt"):
        export_tables(store, tmp_path / "none", "tensorrt")
    assert not (tmp_path / "none").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    store = stored(tmp_path / "ours", record(8))
    export_tables(store, tmp_path / "shared")
    with pytest.raises(InputError, match="exists already"):
        export_tables(store, tmp_path / "shared")


@pytest.mark.parametrize("line", ["no json", "[]", '{"schema": "edgeprune.network/2"}', '{"schema": 1}', "{}", "time"])
def test_a_folder_that_cannot_be_read_changes_nothing(tmp_path: Path, line: str) -> None:
    theirs = stored(tmp_path / "theirs", record(8))
    theirs.merge(THERE, [record(16)])
    shared = tmp_path / "shared"
    export_tables(theirs, shared)
    if line == "time":
        line = json.dumps({**record(24).to_json(), "engine_ms": -1})
    last = max(path.parent.name for path in shared.glob("*/fingerprint.json"))
    with (shared / last / "networks.jsonl").open("a") as stream:
        stream.write(line + "\n")
    ours = TableStore(tmp_path / "ours")
    with pytest.raises(InputError, match=r"networks.jsonl line 2 is no network"):
        import_tables(ours, shared)
    assert not ours.fingerprints()


def test_a_table_stays_under_its_fingerprint(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    export_tables(stored(tmp_path / "theirs", record(8)), shared)
    shutil.move(shared / HERE.digest, shared / THERE.digest)
    with pytest.raises(InputError, match=f"holds the fingerprint {HERE.digest}: one of the two was changed"):
        import_tables(TableStore(tmp_path / "ours"), shared)
    with pytest.raises(InputError, match="no latency table in it"):
        import_tables(TableStore(tmp_path / "ours"), tmp_path)
