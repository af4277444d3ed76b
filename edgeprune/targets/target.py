"""Kinds of hardware as data (profiles/NAME.toml), and what makes two measurements comparable."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from edgeprune.errors import InputError, nearest
from edgeprune.runtimes.registry import RuntimeRecord, records

_TYPES: dict[str, type] = {
    "threads": int,
    "align": int,
    "copies": bool,
    "precisions": tuple,
    "devices": tuple,
    "remedy": tuple,
}
_IN_WORDS: dict[type, str] = {str: "a text", int: "a whole number", bool: "true or false", tuple: "a list of texts"}


@dataclass(frozen=True)
class Target:
    """A kind of hardware with its runtime.

    Attributes:
        name: what a person types.
        title: one line about it.
        runtime: name in `runtimes/registry.py`.
        precision: the default.
        precisions: those that make sense on it.
        threads: the default; 0 means one for each core.
        devices: ways to reach it: `local`, `ssh`.
        align: widths are multiples of this unless --align says otherwise; 1 where the measured steps decide.
        copies: the latency is from host memory to host memory; without, of what lies in the accelerator's memory.
        needs: what a person must have for it, in words.
        remedy: commands that help where no such device is reachable.
    """

    name: str
    title: str
    runtime: str
    precision: str
    precisions: tuple[str, ...]
    threads: int
    devices: tuple[str, ...]
    align: int
    copies: bool
    needs: str
    remedy: tuple[str, ...]

    @property
    def record(self) -> RuntimeRecord | None:
        """The runtime's record, or None where this version has no adapter for it."""
        return records().get(self.runtime)

    @classmethod
    def from_toml(cls, name: str, text: str) -> Target:
        """Read a profile.

        Raises:
            InputError: not TOML, a key missing or unknown, or a value of another type.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"profile {name}.toml is not TOML: {error}", remedy="fix the file") from None
        known = [field.name for field in fields(cls) if field.name != "name"]
        for key in data:
            if key not in known:
                raise InputError(
                    f"profile {name}.toml has the unknown key {key!r}{nearest(key, known)}",
                    remedy=f"use {', '.join(known)}",
                )
        missing = [key for key in known if key not in data]
        if missing:
            raise InputError(f"profile {name}.toml has no {', '.join(missing)}", remedy="add it to the file")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        for key, value in values.items():
            kind = _TYPES.get(key, str)
            if not _is(value, kind):
                raise InputError(
                    f"profile {name}.toml: {key} = {value!r} is not {_IN_WORDS[kind]}", remedy="fix the file"
                )
        return cls(name=name, **values)


class Fingerprint(Mapping[str, str]):
    """What makes two measurements comparable: text by name, never changed.

    Two measurements belong together only when their fingerprints are equal.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(sorted((str(key), str(value)) for key, value in values.items()))

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Fingerprint({self._values!r})"

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name it."""
        return hashlib.sha256(json.dumps(self._values, sort_keys=True).encode()).hexdigest()[:12]

    def differences(self, other: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return (here, there) for every name whose values differ; an absent one reads as an empty text."""
        names = sorted({*self, *other})
        pairs = {name: (self.get(name, ""), other.get(name, "")) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_json(self) -> dict[str, str]:
        """Return JSON-ready data that `from_json` reads back."""
        return dict(self._values)

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Fingerprint:
        """Rebuild a fingerprint from `to_json` data."""
        return cls(data)


def targets() -> dict[str, Target]:
    """Return every known target by name.

    Raises:
        InputError: a profile is wrong.
    """
    files = sorted(
        (entry for entry in _profiles().iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name
    )
    names = [entry.name[: -len(".toml")] for entry in files]
    return {
        name: Target.from_toml(name, entry.read_text(encoding="utf-8"))
        for name, entry in zip(names, files, strict=True)
    }


def find_target(name: str) -> Target:
    """Return the target called `name`.

    Raises:
        InputError: there is none.
    """
    known = targets()
    if name not in known:
        raise InputError(f"target {name!r} is not known{nearest(name, known)}", remedy=f"use one of {', '.join(known)}")
    return known[name]


def _is(value: object, kind: type) -> bool:
    if isinstance(value, tuple):
        return kind is tuple and all(isinstance(part, str) for part in value)
    return type(value) is kind


def _profiles() -> Traversable:
    """Return the folder of profiles: beside the package in a checkout, inside it in an installed wheel."""
    inside = resources.files("edgeprune") / "profiles"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "profiles"
