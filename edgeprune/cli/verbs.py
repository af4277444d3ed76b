"""How a function becomes a verb: the fields of its options' dataclass become its options on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import typer

from edgeprune.cli.options import Common, Options, default_of
from edgeprune.cli.output import Printed, finish
from edgeprune.errors import InterruptedRun

_ORIGINS = {"COMMANDLINE": "command line", "DEFAULT": "default"}


def options_of(run: Callable[[Options], int]) -> type[Options]:
    """Return the dataclass that the verb `run` takes."""
    return get_type_hints(run)["options"]  # type: ignore[no-any-return]


def add_verb(app: typer.Typer, run: Callable[[Options], int]) -> None:
    """Add `run` to `app` under its own name, with its docstring as help."""
    options = options_of(run)

    def command(context: typer.Context, **values: Any) -> int:
        given, origins = _used(context, options(**values))
        if given.show_config:
            return finish(given, _shown_config(given, origins))
        try:
            return run(given)
        except (KeyboardInterrupt, InterruptedRun) as error:  # the parser would turn the first into a mere number
            stopped = InterruptedRun("interrupted")
            stopped.resumable = given.resumable()
            raise stopped from error

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += _parameters(options)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {item.name: item.annotation for item in parameters}
    app.command(run.__name__, help=inspect.getdoc(run))(command)


def _parameters(options: type[Common]) -> list[inspect.Parameter]:
    """Return the fields as parameters, those that every verb has last: help shows them in this order."""
    hints = get_type_hints(options, include_extras=True)
    shared = {item.name for item in fields(Common)}
    found = [
        inspect.Parameter(
            item.name, inspect.Parameter.KEYWORD_ONLY, default=default_of(item), annotation=hints[item.name]
        )
        for item in fields(options)
    ]
    return sorted(found, key=lambda item: item.name in shared)


def _used(context: typer.Context, given: Options) -> tuple[Options, Mapping[str, str]]:
    """Return the options that the verb uses, and where each comes from: the command line, a file, or a default."""
    sources = {item.name: context.get_parameter_source(item.name) for item in fields(given)}
    names = {name: source.name if source else "DEFAULT" for name, source in sources.items()}
    from_file = {name for name, source in names.items() if source not in _ORIGINS}
    used = given.used(from_file)
    left = {name for name in from_file if getattr(used, name) != getattr(given, name)}
    origins = {name: _ORIGINS.get(source, context.obj.origin) for name, source in names.items()}
    return used, origins | dict.fromkeys(left, _ORIGINS["DEFAULT"])


def _shown_config(given: Common, origins: Mapping[str, str]) -> Printed:
    shown = {}
    for item in fields(given):
        value = getattr(given, item.name)
        plain = value if value is None or isinstance(value, (bool, int, float, str, list)) else str(value)
        if item.name != "show_config":
            shown[item.name.replace("_", "-")] = {"value": plain, "origin": origins[item.name]}
    return Printed({"schema": "edgeprune.config/1", "options": shown})
