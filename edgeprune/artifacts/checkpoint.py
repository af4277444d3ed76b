"""What a training leaves: the network's weights, what was built into it and cut from it, and what training learned.

| file                | what it is                                                                          |
|---------------------|-------------------------------------------------------------------------------------|
| `model.safetensors` | the weights, under the names of the network that the code builds                    |
| `plan.json`         | what was built in and cut, as in a bundle: `edgeprune.load` reads both               |
| `training.json`     | source, method, recipe, history, importances, sizes, versions, hashes of the others |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.artifacts import bundle as bundles
from edgeprune.artifacts.contents import check_files, digests
from edgeprune.errors import InputError
from edgeprune.graph.cuts import Cuts
from edgeprune.records import read_json, write_json
from edgeprune.training.loop import Trained

FILE = "training.json"
SCHEMA = "edgeprune.training/1"


def save(
    folder: Path, trained: Trained, cuts: Cuts, structure: Mapping[str, Any] | None, content: Mapping[str, Any]
) -> None:
    """Write a checkpoint.

    Args:
        folder: made where it is not there.
        trained: the network, its history and its importances.
        cuts: all that was cut from the network that the code builds, or from what `structure` made of it.
        structure: what was built into it; None for nothing.
        content: what else `training.json` says, `source` among it.

    Raises:
        InputError: the weights can't be written.
    """
    bundles.write_network(folder, trained.model, cuts, structure)
    importances = {name: [float(f"{one:.6g}") for one in found.tolist()] for name, found in trained.importances.items()}
    learned = {"history": trained.history, "importances": importances}
    write_json(folder / FILE, SCHEMA, {**content, **learned, "files": digests(folder, FILE)})


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return (folder / FILE).is_file()


def read(folder: Path) -> dict[str, Any]:
    """Return what `training.json` says.

    Raises:
        InputError: not a checkpoint, or a file of it is missing or was changed since.
    """
    if not is_checkpoint(folder):
        raise InputError(f"{folder} is not a checkpoint", remedy="name a folder that `edgeprune train` wrote")
    content = read_json(folder / FILE, SCHEMA)
    check_files(folder, content["files"], remedy="train again")
    return content


def importances(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return tensor -> one importance an output channel; empty where the method learned none."""
    return {name: np.asarray(found, dtype=np.float64) for name, found in content["importances"].items()}
