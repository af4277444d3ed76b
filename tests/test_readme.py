"""What the README and the public docstrings show is run as it stands there, on a device that is a formula."""

from __future__ import annotations

import doctest
import json
import re
import tomllib
from pathlib import Path

import pytest
import torch

import edgeprune
from edgeprune.cli.config import option_names
from edgeprune.cli.main import VERBS, run
from edgeprune.cli.verbs import options_of
from tests.nets import Residual
from tests.test_pipeline import simulate

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PYTHON, TOML, COMMANDS = ([text for kind, text in BLOCKS if kind == wanted] for wanted in ("python", "toml", ""))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the README names."""
    (tmp_path / "net.py").write_text("from tests.nets import Residual\n\n\ndef make():\n    return Residual()\n")
    for name in ("net.safetensors", "images.npz"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    simulate(monkeypatch, tmp_path / "tables")
    return tmp_path


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.strip().splitlines()[-1])
def test_every_python_block_runs(block: str, folder: Path) -> None:
    images = torch.randn(4, 3, 16, 16)
    known = {"model": Residual().eval(), "example_inputs": images[:1], "images": images, "torch": torch}
    exec(block, {**known, "cross_entropy": torch.zeros(())})


def test_the_settings_in_a_file_are_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = TOML
    (folder / "edgeprune.toml").write_text(text)
    assert run(["export", "--show-config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["options"]
    for key, value in tomllib.loads(text).items():
        assert shown[key] == {"value": value, "origin": "edgeprune.toml"}
    (folder / "edgeprune.toml").write_text(text.replace("max-drop", "max-dorp"))
    assert run(["export"]) == 2
    assert "edgeprune.toml: 'max-dorp' is not an option (did you mean 'max-drop'?)" in capsys.readouterr().err


def test_every_option_of_a_command_exists() -> None:
    commands = re.findall(r"^edgeprune ([a-z]+)(.*)$", "".join(COMMANDS), re.MULTILINE)
    assert {verb for verb, _ in commands} == set(VERBS)
    for verb, words in commands:
        known = {*option_names(options_of(VERBS[verb])).values(), "import", "export"}
        assert set(re.findall(r"--([a-z-]+)", words)) <= known, (verb, words)


def test_public_docstrings_show_what_is_so() -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for name in edgeprune.__all__:
        for found in finder.find(getattr(edgeprune, name), name, globs={}):
            runner.run(found)
    assert runner.tries >= 15
    assert runner.failures == 0
