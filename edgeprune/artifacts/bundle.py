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
from edgeprune.graph.plan import SCHEMA as PLAN
from edgeprune.graph.plan import WidthPlan
from edgeprune.pruning.slim import Cuts, cut
from edgeprune.records import read_json, write_bytes, write_json
from edgeprune.training.lapp import rebuild

MANIFEST = "edgeprune.manifest/1"


def save(
    folder: Path,
    small: nn.Module,
    plan: WidthPlan,
    before: Cuts | None = None,
    structure: Mapping[str, Any] | None = None,
) -> None:
    """Write `model.safetensors` and `plan.json`: all that `load` needs.

    Args:
        folder: made where it is not there.
        small: the compact network.
        plan: how it was cut.
        before: what had been cut already from the network that the code builds.
        structure: what training had built into that network before any cut; None for nothing.

    Raises:
        InputError: the weights can't be written.
    """
    write_network(folder, small, composed(before or {}, plan.cuts), structure, plan.to_json()["groups"])


def write_network(
    folder: Path,
    model: nn.Module,
    cuts: Cuts,
    structure: Mapping[str, Any] | None,
    groups: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights, and how the network follows from the one that the code builds.

    Raises:
        InputError: the weights can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_model(model, str(folder / "model.safetensors"))
    except SafetensorError as error:  # its word for whatever the file system says
        raise InputError(
            f"{folder / 'model.safetensors'} can't be written: {error}", remedy="make room, or choose another folder"
        ) from error
    stored = {name: {str(dim): kept.tolist() for dim, kept in dims.items()} for name, dims in sorted(cuts.items())}
    built = {"structure": dict(structure)} if structure is not None else {}
    write_json(folder / "plan.json", PLAN, {"groups": dict(groups or {}), "cuts": stored, **built})


def composed(first: Cuts, then: Cuts) -> Cuts:
    """Return the one cut that does both: the indices of `then` count the entries that `first` has left."""
    cuts = {name: dict(dims) for name, dims in first.items()}
    for name, dims in then.items():
        for dim, kept in dims.items():
            left = cuts.setdefault(name, {}).get(dim)
            cuts[name][dim] = kept if left is None else left[kept]
    return cuts


def read_cuts(bundle: Path) -> Cuts:
    """Return what a bundle cuts from the network that the code builds.

    Raises:
        InputError: not a bundle.
    """
    content = read_json(bundle / "plan.json", PLAN)
    return {
        tensor: {int(dim): np.asarray(kept, dtype=np.int64) for dim, kept in dims.items()}
        for tensor, dims in content["cuts"].items()
    }


def read_structure(bundle: Path) -> dict[str, Any] | None:
    """Return what training had built into the network of a bundle before it was cut; None for nothing.

    Raises:
        InputError: not a bundle.
    """
    found: dict[str, Any] | None = read_json(bundle / "plan.json", PLAN).get("structure")
    return found


def load(bundle: str | Path, model: nn.Module) -> nn.Module:
    """Return the network of a bundle or of a checkpoint; `model` is the dense one, with any weights, and left alone.

    Raises:
        InputError: neither of the two, or of another network.
    """
    folder = Path(bundle)
    structure = read_structure(folder)
    small = cut(model if structure is None else rebuild(model, structure), read_cuts(folder))
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
    check_files(folder, manifest["files"], remedy="export the bundle again")
    return manifest


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `manifest.json` with the hash of every other file in the folder."""
    write_json(folder / "manifest.json", MANIFEST, {**content, "files": digests(folder, "manifest.json")})


def digests(folder: Path, but: str) -> dict[str, str]:
    """Return the hash of every file in a folder, by its path; `but` is left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != but)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def check_files(folder: Path, files: Mapping[str, str], *, remedy: str) -> None:
    """Refuse a folder in which a file is missing or was changed.

    Raises:
        InputError: one is.
    """
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing", remedy=remedy)
        if file_digest(folder / name) != digest:
            raise InputError(f"{folder / name} was changed since it was written", remedy=remedy)


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
