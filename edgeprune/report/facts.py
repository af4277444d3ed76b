"""What a bundle's page is made from, every value by the file and the place that it stands at.

A place is written `manifest.json#/result/latency_ms/measured`, `evidence.json#/bytes/engine` or
`latency.csv#/3/predicted_us`: a file of the bundle and a JSON pointer into it, the rows of a table counted from 0.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.artifacts import contents
from edgeprune.records import read_json

EVIDENCE = "edgeprune.evidence/1"
PAGE = contents.PAGE

_NUMBERS = {"cin": int, "cout": int, "dense_us": float, "predicted_us": float, "measured_us": float}


@dataclass(frozen=True)
class Facts:
    """The readable files of a bundle.

    Attributes:
        folder: where they are.
        files: file name -> content, JSON or a list of rows; `evidence.json` is empty where the bundle has none.
    """

    folder: Path
    files: Mapping[str, Any]

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest."""
        return dict(self.files["manifest.json"])

    @property
    def result(self) -> dict[str, Any]:
        """What `export --json` printed."""
        return dict(self.manifest["result"])

    @property
    def evidence(self) -> dict[str, Any]:
        """What else the run had in hand; empty for a bundle of an earlier version."""
        return dict(self.files["evidence.json"])

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The rows of latency.csv; None where a cell is empty."""
        return list(self.files["latency.csv"])

    @property
    def hashes(self) -> dict[str, str]:
        """File -> SHA-256, the page itself left out."""
        return {name: digest for name, digest in self.manifest["files"].items() if name != PAGE}

    def at(self, place: str) -> Any:
        """Return the value at a place; None where there is none."""
        name, _, pointer = place.partition("#/")
        found = self.files[name]
        for step in pointer.split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list):
                found = found[int(key)] if int(key) < len(found) else None
            elif isinstance(found, Mapping):
                found = found.get(key)
            if found is None:
                return None
        return found


def read_facts(folder: Path) -> Facts:
    """Read a bundle.

    Raises:
        InputError: not a bundle, or a file of it is missing or was changed since.
    """
    manifest = contents.read_manifest(folder)
    evidence = folder / "evidence.json"
    table = (folder / "latency.csv").read_text(encoding="utf-8").splitlines()
    return Facts(
        folder,
        {
            "manifest.json": manifest,
            "evidence.json": read_json(evidence, EVIDENCE) if evidence.is_file() else {},
            "latency.csv": [_row(row) for row in csv.DictReader(table)],
        },
    )


def place(file: str, *steps: object) -> str:
    """Return a place; a step may hold any characters."""
    return f"{file}#/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _row(row: Mapping[str, str]) -> dict[str, Any]:
    return {name: _NUMBERS.get(name, str)(text) if text else None for name, text in row.items()}
