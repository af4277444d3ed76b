"""Options from a file: `edgeprune.toml`, or `[tool.edgeprune]` in `pyproject.toml`, of the working folder.

A key is an option's name without its dashes in front (`max-drop = 1`), or `model` and `bundle` for the arguments. It
counts for every verb that has that option, and the command line wins. An edgeprune.toml hides the pyproject.toml.

What a verb, so called, has no use for is left out (`options.Common.used`), as a latency for `train --method rni`; only
what was typed is refused. `out` is for `export` and `train`. Of several devices, a verb for one takes the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from edgeprune.cli.options import Common
from edgeprune.errors import InputError, nearest

_NOT_IN_FILES = {"show_config", "export_to", "import_from", "verdict", "one", "other"}
"""What is done once, or names what a verb is called for."""
_ONE_OF = {"device"}
"""Keys that may hold several values, of which a verb that wants one takes the first; other lists are joined."""


@dataclass(frozen=True)
class Config:
    """What a file says, and which file that is."""

    origin: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def read_config(folder: Path) -> Config:
    """Read the configuration of `folder`; an empty one when there is none.

    Raises:
        InputError: not TOML, or no table of options.
    """
    own = folder / "edgeprune.toml"
    if own.is_file():
        return Config(own.name, _load(own))
    shared = folder / "pyproject.toml"
    if shared.is_file():
        tools = _load(shared).get("tool")
        values = tools.get("edgeprune") if isinstance(tools, Mapping) else None
        if values is not None and not isinstance(values, Mapping):
            raise InputError(f"{shared}: tool.edgeprune is no table", remedy="write [tool.edgeprune]")
        if values is not None:
            return Config(f"{shared.name} [tool.edgeprune]", values)
    return Config()


def defaults(config: Config, verbs: Mapping[str, type[Common]]) -> dict[str, dict[str, Any]]:
    """Return verb -> option -> value, as the command line's parser takes defaults.

    Raises:
        InputError: a key that no verb has as an option, or a value of a kind that it can't be.
    """
    found: dict[str, dict[str, Any]] = {verb: {} for verb in verbs}
    known = {name for options in verbs.values() for name in option_names(options).values()}
    for key, value in config.values.items():
        if key not in known:
            raise InputError(
                f"{config.origin}: {key!r} is not an option{nearest(key, known)}",
                remedy="`edgeprune export --help` lists the options",
            )
        for verb, options in verbs.items():
            for name, written in option_names(options).items():
                if written == key:
                    found[verb][name] = _as_typed(config, key, value, get_type_hints(options)[name])
    return found


def option_names(options: type[Common]) -> dict[str, str]:
    """Return field -> the name that a person writes, for all that may stand in a file."""
    return {item.name: item.name.replace("_", "-") for item in fields(options) if item.name not in _NOT_IN_FILES}


def _as_typed(config: Config, key: str, value: Any, kind: Any) -> Any:
    """Return `value` as the parser would get it from the command line: flags as bools, all else as text."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise InputError(f"{config.origin}: {key} = {value!r} is not true or false", remedy=f"write {key} = true")
    if isinstance(value, (bool, Mapping)):
        raise InputError(f"{config.origin}: {key} = {value!r} is no value for it", remedy="write a text or a number")
    items = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    if key in _ONE_OF and not items:
        raise InputError(f"{config.origin}: {key} = [] names nothing", remedy="name one, or leave it out")
    if get_origin(kind) is list:
        return items
    return items[0] if key in _ONE_OF else ",".join(items)


def _load(path: Path) -> dict[str, Any]:
    import tomllib  # only where there is a file: --help should not wait for it

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}", remedy="fix the file") from error
