"""Tables as a folder that can be shared and reviewed, and back into the store.

The folder has one folder a fingerprint, named by its digest: `fingerprint.json`, what the measurements are comparable
with, `networks.jsonl`, one network a line with all its layers, and `samples.jsonl`, the raw samples of each time that
one was measured, and by what all before were scaled where a whole table was. There is nothing else in it, and no name
of a person or a machine. A table stays under its own fingerprint wherever it goes, and is checked before it is used;
the samples are for review, and are not taken in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import InputError, TableError
from edgeprune.latency.folders import FINGERPRINT, read_fingerprint
from edgeprune.latency.network import SCHEMA, NetworkRecord
from edgeprune.latency.store import SAMPLES_FILE, TableStore
from edgeprune.records import append_lines, read_lines, write_json
from edgeprune.targets.target import Fingerprint


@dataclass(frozen=True)
class SharedTable:
    """A table that was written or taken in: its fingerprint, how many networks it has, how many of them were new."""

    fingerprint: Fingerprint
    networks: int
    new: int


def export_tables(store: TableStore, folder: Path, runtime: str | None = None) -> list[SharedTable]:
    """Write the store's tables, or those of one runtime, into a new folder.

    Raises:
        InputError: the folder has something in it.
        TableError: there is no table.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already", remedy="name a folder that does not, so that nothing is mixed")
    chosen = [one for one in store.fingerprints() if runtime is None or one.get("runtime") == runtime]
    tables = [table for table in map(store.load, chosen) if table.records]
    if not tables:
        named = f" of runtime {runtime}" if runtime else ""
        raise TableError(f"there is no latency table{named} in {store.root}", remedy="edgeprune profile measures one")
    for table in tables:
        own = folder / table.fingerprint.digest
        write_json(own / "fingerprint.json", FINGERPRINT, table.fingerprint.to_json())
        append_lines(own / "networks.jsonl", [record.to_json() for record in table.current])
        known = {record.network for record in table.current}
        samples = read_lines(store.folder(table.fingerprint) / SAMPLES_FILE)
        if shared := [line for line in samples if line.get("network") in known]:
            append_lines(own / SAMPLES_FILE, shared)
    return [SharedTable(table.fingerprint, len(table.current), len(table.current)) for table in tables]


def import_tables(store: TableStore, folder: Path) -> list[SharedTable]:
    """Merge the tables of a folder into the store's; nothing is taken in unless all of it can be read.

    What was measured here stays: a plan of a network that the store has is not taken from the folder.

    Raises:
        InputError: not such a folder, or a file in it was changed so that it can't be read.
    """
    found = [_read_table(path.parent) for path in sorted(folder.glob("*/fingerprint.json"))]
    if not found:
        raise InputError(f"{folder} has no latency table in it", remedy="name a folder that `--export` wrote")
    return [SharedTable(fingerprint, len(records), store.merge(fingerprint, records)) for fingerprint, records in found]


def _read_table(folder: Path) -> tuple[Fingerprint, list[NetworkRecord]]:
    fingerprint = read_fingerprint(folder / "fingerprint.json")
    if fingerprint.digest != folder.name:
        raise InputError(
            f"{folder} holds the fingerprint {fingerprint.digest}: one of the two was changed",
            remedy="export the table again",
        )
    return fingerprint, list(_read_networks(folder / "networks.jsonl"))


def _read_networks(path: Path) -> Iterator[NetworkRecord]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a line may hold other ends of lines as characters
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", remedy="export the table again") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']!r}, not {SCHEMA!r}")
            record = NetworkRecord.from_json(content)
            times = [record.engine_ms, *(row.us for row in record.rows), record.inserted_us]
            if not all(math.isfinite(time) and time >= 0 for time in times) or record.engine_ms == 0:
                raise ValueError("a time that is none")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} line {number} is no network: {type(error).__name__}: {error}", remedy="export the table again"
            ) from None
        yield record
