"""The store of latency tables: what is in it survives whatever ends the process that writes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeprune.latency.network import NetworkRecord
from edgeprune.latency.store import TableStore
from edgeprune.records import append_lines, write_json
from edgeprune.targets.target import Fingerprint

FINGERPRINT = Fingerprint({"runtime": "test"})
WRITER = """
import sys
from edgeprune.latency.store import TableStore
from tests.latency.test_store import FINGERPRINT, record

store = TableStore()
table = store.load(FINGERPRINT)
for width in range(len(table.records), 10**6):
    table = store.add(table, record(width))
    print(width, flush=True)
"""


def record(width: int, network: str = "net") -> NetworkRecord:
    return NetworkRecord(network, {"conv1": width}, 1.0 + width, 0.01, (), 0.0)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_at_most_the_record_it_was_at(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPRUNE_TABLES", str(tmp_path))
    moments, said = random.Random(0), 0
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said = int(writer.stdout.readline())
            time.sleep(moments.uniform(0, 0.2))
            writer.kill()
            said = max([said, *map(int, writer.stdout.read().split())])
        widths = [one.widths["conv1"] for one in TableStore().load(FINGERPRINT).records]
        assert widths == list(range(len(widths))), "every record once, in order"
        assert said < len(widths) <= said + 2, "all that was said to be stored is there"


def test_what_another_version_wrote_is_passed_over(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    store.add(store.load(FINGERPRINT), record(1))
    write_json(tmp_path / "0123456789ab/fingerprint.json", "edgeprune.fingerprint/2", {"runtime": "test"})
    append_lines(store.folder(FINGERPRINT) / "networks.jsonl", [{"schema": "edgeprune.network/2", "network": "net"}])
    assert store.fingerprints() == [FINGERPRINT]
    assert store.load(FINGERPRINT).records == (record(1),)


def test_what_is_retired_is_passed_over_and_other_networks_stay(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    table = store.load(FINGERPRINT)
    for one in (record(1), record(2, "other")):
        table = store.add(table, one)
    store.decide(FINGERPRINT, {"network": "net"}, {"plan": "old"})
    store.decide(FINGERPRINT, {"network": "other"}, {"plan": "stays"})
    store.retire(FINGERPRINT, "net", "differs")
    assert [one.network for one in store.load(FINGERPRINT).records] == ["other"]
    assert store.decision(FINGERPRINT, {"network": "net"}) is None
    assert store.decision(FINGERPRINT, {"network": "other"}) == {"plan": "stays"}
    store.add(table, record(3))
    assert [one.widths["conv1"] for one in store.load(FINGERPRINT).of("net")] == [3]
