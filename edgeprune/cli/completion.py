"""What the shell offers when a person presses TAB: names and folders that fit, found without torch or a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edgeprune.artifacts.workspace import MADE
from edgeprune.targets.target import targets

_DEPTH = ("*", "*/*")
"""Bundles are looked for so deep below what was typed: `runs/demo-openvino` is found at once."""

Offer = Callable[[str], list[str]]


def one_of(names: Iterable[str]) -> Offer:
    """Return what offers the names that begin as what was typed does."""
    known = tuple(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def target_names(incomplete: str) -> list[str]:
    """Return the targets of profiles/ that begin so."""
    return [name for name in targets() if name.startswith(incomplete)]


def bundles(incomplete: str) -> list[str]:
    """Return the folders that `export` wrote whose path begins so."""
    return sorted(_holding(incomplete, "manifest.json"))


def models(incomplete: str) -> list[str]:
    """Return `demo` and the folders that `export` or `train` wrote, as far as they begin so."""
    made = {path for name in MADE for path in _holding(incomplete, name)}
    return [*one_of(["demo"])(incomplete), *sorted(made)]


def _holding(incomplete: str, file: str) -> Iterator[str]:
    above, _, _ = incomplete.rpartition("/")
    start = f"{above}/" if above else "/" if incomplete.startswith("/") else ""
    for pattern in _DEPTH:
        for found in Path(start or ".").glob(f"{pattern}/{file}"):
            path = start + str(found.parent.relative_to(start or "."))
            if path.startswith(incomplete) and not found.parent.name.startswith("."):
                yield path
