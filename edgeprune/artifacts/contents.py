"""A bundle's manifest and samples: what can be read of it, and written, without torch."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from edgeprune.errors import InputError
from edgeprune.records import read_json, write_bytes, write_json

MANIFEST = "edgeprune.manifest/1"

PAGE = "report.html"
"""What a person reads of a bundle. It may be missing, since it can be drawn again from the other files."""


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle."""
    return (folder / "manifest.json").is_file() and (folder / "model.onnx").is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest.

    Raises:
        InputError: not a bundle, or a file of it is missing (the page aside) or was changed since.
    """
    if not is_bundle(folder):
        raise InputError(f"{folder} is not a bundle", remedy="name a folder that `edgeprune export` wrote")
    manifest = read_json(folder / "manifest.json", MANIFEST)
    expected = {name: digest for name, digest in manifest["files"].items() if name != PAGE or (folder / PAGE).exists()}
    check_files(folder, expected, remedy="export the bundle again")
    return manifest


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `manifest.json` with the hash of every other file in the folder."""
    write_json(folder / "manifest.json", MANIFEST, {**content, "files": digests(folder, "manifest.json")})


def rewrite_page(folder: Path, content: bytes) -> None:
    """Write a bundle's page anew, and its hash into the manifest; what else lies in the folder is none of it.

    Raises:
        InputError: not a bundle, or a file of it is missing or was changed since.
    """
    manifest = read_manifest(folder)
    write_bytes(folder / PAGE, content)
    manifest["files"][PAGE] = file_digest(folder / PAGE)
    del manifest["schema"]
    write_json(folder / "manifest.json", MANIFEST, manifest)


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
    arrays.update({f"output_{at:03d}": one for at, one in enumerate(outputs)})
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    write_bytes(path, stream.getvalue())


def read_samples(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the stored inputs and the outputs that torch gave for them."""
    with np.load(str(path), allow_pickle=False) as stored:
        names = sorted(stored.files)
        inputs = [stored[name] for name in names if name.startswith("input_")]
        return inputs, [stored[name] for name in names if name.startswith("output_")]


def manifest_digest(folder: Path) -> str:
    """Return the SHA-256 of what a bundle's manifest says of all but its page, which may be drawn anew."""
    manifest = read_json(folder / "manifest.json", MANIFEST)
    manifest["files"].pop(PAGE, None)
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
