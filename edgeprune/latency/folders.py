"""Where latency tables lie, and of which fingerprints there are some: what can be known without loading one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_data_path

from edgeprune.errors import InputError
from edgeprune.records import read_json
from edgeprune.targets.target import Fingerprint

FINGERPRINT = "edgeprune.fingerprint/1"


def tables_folder() -> Path:
    """Return the folder of all tables: `EDGEPRUNE_TABLES`, or one in the user's data folder."""
    configured = os.environ.get("EDGEPRUNE_TABLES")
    return Path(configured) if configured else user_data_path("edgeprune") / "tables"


def fingerprints_in(folder: Path) -> list[Fingerprint]:
    """Return the fingerprints that there are tables of, by digest; what another version wrote is passed over."""
    found = []
    for path in sorted(folder.glob("*/fingerprint.json")):
        with suppress(InputError):
            found.append(read_fingerprint(path))
    return found


def read_fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of the table beside `path`, its `fingerprint.json`.

    Raises:
        InputError: it can't be read.
    """
    return Fingerprint({name: value for name, value in read_json(path, FINGERPRINT).items() if name != "schema"})
