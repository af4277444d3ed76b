"""How a function becomes a verb: the fields of its options' dataclass become its options on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, get_type_hints

import typer

from edgeprune.cli.options import Common
from edgeprune.cli.output import Printed, finish
from edgeprune.errors import InterruptedRun

Options = TypeVar("Options", bound=Common)

_ORIGINS = {"COMMANDLINE": "command line", "DEFAULT": "default"}


def options_of(run: Callable[[Options], int]) -> type[Options]:
    """Return the dataclass that the verb `run` takes."""
    return get_type_hints(run)["options"]  # type: ignore[no-any-return]


def add_verb(app: typer.Typer, run: Callable[[Options], int]) -> None:
    """Add `run` to `app` under its own name, with its docstring as help."""
    options = options_of(run)

    def command(context: typer.Context, **values: Any) -> int:
        given = options(**values)
        if given.show_config:
            return finish(given, _shown_config(context, given))
        try:
            return run(given)
        except KeyboardInterrupt as error:  # the parser around us would turn it into a mere number
            raise InterruptedRun("interrupted") from error

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
            item.name, inspect.Parameter.KEYWORD_ONLY, default=_default(item), annotation=hints[item.name]
        )
        for item in fields(options)
    ]
    return sorted(found, key=lambda item: item.name in shared)


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _shown_config(context: typer.Context, given: Common) -> Printed:
    shown = {}
    for item in fields(given):
        source = context.get_parameter_source(item.name)
        origin = _ORIGINS.get(source.name if source else "DEFAULT", context.obj.origin)
        value = getattr(given, item.name)
        plain = value if value is None or isinstance(value, (bool, int, float, str, list)) else str(value)
        if item.name != "show_config":
            shown[item.name.replace("_", "-")] = {"value": plain, "origin": origin}
    return Printed({"schema": "edgeprune.config/1", "options": shown})
