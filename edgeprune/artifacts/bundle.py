"""The bundle: what is shipped, and how the compact network comes back from it."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from edgeprune.errors import InputError
from edgeprune.graph.cuts import Cuts
from edgeprune.graph.plan import SCHEMA as PLAN
from edgeprune.graph.plan import WidthPlan
from edgeprune.pruning.slim import cut
from edgeprune.records import read_json, write_bytes, write_json

MANIFEST = "edgeprune.manifest/1"


def save(folder: Path, small: nn.Module, plan: WidthPlan, before: Cuts | None = None) -> None:
    """Write `model.safetensors` and `plan.json`: all that `load` needs.

    Args:
        folder: made where it is not there.
        small: the compact network.
        plan: how it was cut.
        before: what had been cut already from the network that the code builds.

    Raises:
        InputError: the weights can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_model(small, str(folder / "model.safetensors"))
    except SafetensorError as error:  # its word for whatever the file system says
        raise InputError(
            f"{folder / 'model.safetensors'} can't be written: {error}", remedy="make room, or choose another folder"
        ) from error
    write_json(folder / "plan.json", PLAN, {**plan.to_json(), **(before or Cuts()).then(plan.cuts).to_json()})


def read_cuts(bundle: Path) -> Cuts:
    """Return what a bundle cuts from the network that the code builds.

    Raises:
        InputError: not a bundle.
    """
    return Cuts.from_json(read_json(bundle / "plan.json", PLAN))


def load(bundle: str | Path, model: nn.Module) -> nn.Module:
    """Return the compact network of a bundle; `model` is the dense network's class, with any weights, and left alone.

    Raises:
        InputError: not a bundle, or of another network.
    """
    folder = Path(bundle)
    small = cut(model, read_cuts(folder))
    try:
        load_model(small, str(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError, FileNotFoundError) as error:
        raise InputError(
            f"the weights in {folder} do not fit {type(model).__name__}: {str(error).splitlines()[0]}",
            remedy="give the network that the bundle was made from",
        ) from error
    return small


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle."""
    return (folder / "manifest.json").is_file() and (folder / "model.onnx").is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest.

    Raises:
        InputError: not a bundle, or a file of it is missing or was changed since.
    """
    if not is_bundle(folder):
        raise InputError(f"{folder} is not a bundle", remedy="name a folder that `edgeprune export` wrote")
    manifest = read_json(folder / "manifest.json", MANIFEST)
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing", remedy="export the bundle again")
        if file_digest(folder / name) != digest:
            raise InputError(f"{folder / name} was changed since the export", remedy="export the bundle again")
    return manifest


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `manifest.json` with the hash of every other file in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    write_json(folder / "manifest.json", MANIFEST, {**content, "files": digests})


def write_samples(path: Path, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
    """Write inputs and the outputs that torch gave for them, so that any device can check itself."""
    stream = io.BytesIO()
    arrays = {f"input_{at:03d}": one for at, one in enumerate(inputs)}
    arrays |= {f"output_{at:03d}": one for at, one in enumerate(outputs)}
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    write_bytes(path, stream.getvalue())


def read_samples(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the stored inputs and the outputs that torch gave for them."""
    with np.load(path, allow_pickle=False) as stored:
        names = sorted(stored.files)
        inputs = [stored[name] for name in names if name.startswith("input_")]
        return inputs, [stored[name] for name in names if name.startswith("output_")]


def write_latency_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a row a layer; times in microseconds."""
    columns = ["layer", "op", "cin", "cout", "dense_us", "predicted_us", "measured_us", "source"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
