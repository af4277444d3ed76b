from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from typer.main import get_command

from edgeprune.cli.config import Config
from edgeprune.cli.options import Common
from edgeprune.cli.verbs import add_verb, options_of


@dataclass(frozen=True)
class Greeting(Common):
    name: Annotated[str, typer.Argument(help="Whom.")] = "world"
    often: Annotated[int, typer.Option(help="How often.")] = 1
    word: Annotated[list[str], typer.Option(help="What.")] = field(default_factory=lambda: ["hello"])


SEEN: list[Greeting] = []


def greet(options: Greeting) -> int:
    """Say hello."""
    SEEN.append(options)
    return 7


def test_the_fields_become_options(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    add_verb(app, greet)
    command = get_command(app)
    arguments = ["greet", "you", "--often", "3", "--word", "a", "--word", "b"]
    assert command.main(arguments, "x", standalone_mode=False, obj=Config()) == 7
    assert command.main(["greet"], "x", standalone_mode=False, obj=Config()) == 7
    assert [Greeting(name="you", often=3, word=["a", "b"]), Greeting()] == SEEN

    assert command.main(["greet", "--help"], "x", standalone_mode=False) == 0
    shown = capsys.readouterr().out
    assert "Say hello." in shown
    assert shown.index("--often") < shown.index("--json"), "a verb's own options come first"
    assert options_of(greet) is Greeting
