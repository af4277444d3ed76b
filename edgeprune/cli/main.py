"""The entry point: one command line in, one exit code out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

from edgeprune.cli.config import Config, defaults, read_config
from edgeprune.cli.diff import diff
from edgeprune.cli.doctor import doctor
from edgeprune.cli.export import export
from edgeprune.cli.failures import tell
from edgeprune.cli.output import reserve_stdout, stop_writing
from edgeprune.cli.plan import plan
from edgeprune.cli.profile import profile
from edgeprune.cli.replay import replay
from edgeprune.cli.report import report
from edgeprune.cli.targets import targets
from edgeprune.cli.train import train
from edgeprune.cli.verbs import add_verb, options_of
from edgeprune.cli.verify import verify

VERBS: dict[str, Any] = {
    verb.__name__: verb for verb in (targets, doctor, profile, plan, train, export, verify, report, diff, replay)
}

_COMPLETING = "_EDGEPRUNE_COMPLETE"
"""The variable by which typer's scripts for the shells ask what fits."""


def main() -> NoReturn:
    """Run the process's command line and end the process."""
    reserve_stdout()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised.

    Args:
        arguments: the words after `edgeprune`.
    """
    config = Config()
    arguments = list(arguments) or ["--help"]
    try:
        # Neither help nor what a shell asks at a TAB may depend on a file that may be broken.
        if "--help" not in arguments and _COMPLETING not in os.environ:
            config = read_config(Path.cwd())
        given = defaults(config, {name: options_of(verb) for name, verb in VERBS.items()})
        command = get_command(_app())
        code = command.main(arguments, "edgeprune", standalone_mode=False, default_map=given, obj=config)
        return int(code or 0)
    except BaseException as error:
        if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
            return stop_writing()
        if isinstance(error, SystemExit):  # how typer ends where a shell asked, or completion was installed
            return int(error.code or 0)
        as_json, debug = (f"--{name}" in arguments or config.values.get(name) is True for name in ("json", "debug"))
        return tell(error, arguments, as_json=as_json, debug=debug)


def _app() -> typer.Typer:
    # No markup: rich would take longer to import than all the rest of --help.
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(_edgeprune)
    for verb in VERBS.values():
        add_verb(app, verb)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"edgeprune {version('edgeprune')}")
        raise typer.Exit


def _edgeprune(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """From a trained PyTorch network and a number of milliseconds to an engine measured to run within them."""
