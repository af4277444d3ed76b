"""Where latency tables are kept: a folder a fingerprint, so that measurements of different ones are never mixed.

Every record is appended in one write under a lock: processes may share the store, and a kill loses at most the network
being timed. The raw samples are in a file of their own, which nothing here reads: they are there to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from edgeprune.latency.folders import FINGERPRINT, fingerprints_in, tables_folder
from edgeprune.latency.network import SCHEMA, NetworkRecord
from edgeprune.latency.table import LatencyTable
from edgeprune.records import append_lines, read_lines, write_json
from edgeprune.targets.target import Fingerprint

DECISION = "edgeprune.decision/1"
RETIRED = "edgeprune.retired/1"
SAMPLES = "edgeprune.samples/1"
DEVICE = "edgeprune.device/1"

SAMPLES_FILE = "samples.jsonl"


class TableStore:
    """Where tables are kept: one folder a fingerprint, shared by every process of the user.

    Beside them are the networks' exports and what cuts cost, which are made anew where they are not there.

    Args:
        root: the folder; `EDGEPRUNE_TABLES`, or the user's data folder, by default.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or tables_folder()

    @property
    def exports(self) -> Path:
        """The folder of exports that are kept beside the tables, so that a table is of use at once."""
        return self.root / "exports"

    def load(self, fingerprint: Fingerprint) -> LatencyTable:
        """Return what was measured on that fingerprint; empty if nothing was."""
        return LatencyTable(fingerprint, tuple(self._read(fingerprint)))

    def fingerprints(self) -> list[Fingerprint]:
        """Return the fingerprints that there are tables of, by digest."""
        return fingerprints_in(self.root)

    def seen(self, device: str, request: Mapping[str, str], fingerprint: Fingerprint) -> None:
        """Keep which fingerprint a device has with the settings that were asked for, where that is news."""
        if self.last_seen(device, request) != fingerprint:
            line = {"schema": DEVICE, "device": device, "request": dict(request), "fingerprint": fingerprint.to_json()}
            append_lines(self._devices, [line])

    def last_seen(self, device: str, request: Mapping[str, str]) -> Fingerprint | None:
        """Return the fingerprint that a device had last with these settings; None if it was never seen with them."""
        found = None
        for line in read_lines(self._devices):
            if (line.get("schema"), line.get("device"), line.get("request")) == (DEVICE, device, dict(request)):
                found = Fingerprint.from_json(line["fingerprint"])
        return found

    def is_of_another(self, fingerprint: Fingerprint, device: str) -> bool:
        """Whether a fingerprint was seen on other devices, and never on this one."""
        seen = {
            line.get("device") for line in read_lines(self._devices) if line.get("fingerprint") == fingerprint.to_json()
        }
        return bool(seen) and device not in seen

    @property
    def _devices(self) -> Path:
        return self.root / "devices.jsonl"

    def merge(self, fingerprint: Fingerprint, records: Iterable[NetworkRecord]) -> int:
        """Append the records of networks and widths that the table lacks, in their order; return how many.

        Those of a network that is there already are of another session than its own, and count as not settled.
        """
        with self._locked(fingerprint) as folder:
            known = {(one.network, tuple(sorted(one.widths.items()))) for one in self._read(fingerprint)}
            there = {network for network, _ in known}
            new = [
                replace(one, settled=False) if one.network in there else one
                for one in records
                if (one.network, tuple(sorted(one.widths.items()))) not in known
            ]
            if new:
                append_lines(folder / "networks.jsonl", [record.to_json() for record in new])
        return len(new)

    @contextmanager
    def _locked(self, fingerprint: Fingerprint) -> Iterator[Path]:
        """Hold the lock of a fingerprint's folder, made and described where it was not there."""
        folder = self.folder(fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not (folder / "fingerprint.json").exists():
                write_json(folder / "fingerprint.json", FINGERPRINT, fingerprint.to_json())
            yield folder

    def add(self, table: LatencyTable, *records: NetworkRecord) -> LatencyTable:
        """Append records on disk, and their raw samples, and return the table with them."""
        with self._locked(table.fingerprint) as folder:
            append_lines(folder / "networks.jsonl", [record.to_json() for record in records])
            if sampled := [_samples(record) for record in records if record.samples_ms]:
                append_lines(folder / SAMPLES_FILE, sampled)
        return LatencyTable(table.fingerprint, (*table.records, *records))

    def decision(self, fingerprint: Fingerprint, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what `decide` kept last under an equal key, or None."""
        found = None
        for line in read_lines(self._decisions(fingerprint)):
            if line.get("schema") == RETIRED and line.get("network") == key.get("network"):
                found = None
            elif line.get("key") == dict(key):
                found = line["content"]
        return None if found is None else dict(found)

    def decide(self, fingerprint: Fingerprint, key: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Keep what was found out for a request, so that the same request finds the same; both are JSON."""
        with self._locked(fingerprint):
            line = {"schema": DECISION, "key": dict(key), "content": dict(content)}
            append_lines(self._decisions(fingerprint), [line])

    def _decisions(self, fingerprint: Fingerprint) -> Path:
        return self.folder(fingerprint) / "decisions.jsonl"

    def retire(self, fingerprint: Fingerprint, network: str, reason: str) -> None:
        """Let go what was measured of a network and decided by it; the lines stay on disk, and are passed over."""
        with self._locked(fingerprint) as folder:
            line = {"schema": RETIRED, "network": network, "reason": reason}
            for path in (self._decisions(fingerprint), folder / "networks.jsonl"):
                append_lines(path, [line])

    def rescale(self, fingerprint: Fingerprint, network: str, factor: float, reason: str) -> None:
        """Put the network's records anew, all times `factor` times as long; what was decided by them is let go.

        They count as not settled: how the networks compare is to be measured again.
        """
        with self._locked(fingerprint) as folder:
            line = {"schema": RETIRED, "network": network, "reason": reason}
            records = LatencyTable(fingerprint, tuple(self._read(fingerprint))).of(network)
            scaled = [replace(record.scaled(factor), settled=False) for record in records]
            append_lines(self._decisions(fingerprint), [line])
            append_lines(folder / "networks.jsonl", [line, *(one.to_json() for one in scaled)])
            append_lines(folder / SAMPLES_FILE, [{**line, "factor": factor}])

    def folder(self, fingerprint: Fingerprint) -> Path:
        """Return the folder of a fingerprint."""
        return self.root / fingerprint.digest

    def _read(self, fingerprint: Fingerprint) -> Iterator[NetworkRecord]:
        current: list[dict[str, Any]] = []
        for line in read_lines(self.folder(fingerprint) / "networks.jsonl"):
            if line.get("schema") == RETIRED:
                current = [one for one in current if one["network"] != line.get("network")]
            elif line.get("schema") == SCHEMA:
                current.append(line)
        yield from map(NetworkRecord.from_json, current)


def _samples(record: NetworkRecord) -> dict[str, Any]:
    """Return a record's samples, to a tenth of a microsecond."""
    return {
        "schema": SAMPLES,
        "network": record.network,
        "widths": dict(record.widths),
        "samples_ms": [round(sample, 4) for sample in record.samples_ms],
    }
