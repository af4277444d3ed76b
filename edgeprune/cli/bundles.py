"""What the verbs that take bundles ask of their arguments before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import InputError


def existing_bundle(folder: Path | None, name: str = "BUNDLE") -> Path:
    """Return a bundle's folder as it was given.

    Raises:
        InputError: it was not named, or is not a folder.
    """
    if folder is None:
        raise InputError(f"no {name} was named", remedy="name the folder that `edgeprune export` wrote")
    if not folder.is_dir():
        raise InputError(f"bundle {folder} is not a folder", remedy="name one that `edgeprune export` wrote")
    return folder
