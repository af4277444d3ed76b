"""The scripts for people, as far as they can be run without installing anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.source import imports

TOOLS = Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """Return the shared module, its checkout a folder with an environment in it and commands that only get noted."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import bootstrap

    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "pytest"\ndependencies = ["rich>=1"]\noptional-dependencies = { demo = ["numpy>=1"] }\n'
    )
    monkeypatch.setattr(bootstrap, "CHECKOUT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", venv)
    yield bootstrap
    del sys.modules["bootstrap"]


def test_it_installs_once_and_again_when_the_project_changes(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "run", lambda *command: ran.append(command))
    monkeypatch.setattr(bootstrap, "_complete", lambda python, extra: True)
    python = bootstrap.ready("demo")
    assert python == str(tmp_path / ".venv" / "bin" / "python")
    assert [command[-2:] for command in ran] == [("-e", ".[demo]")]
    bootstrap.ready("demo")
    assert len(ran) == 1
    with open(tmp_path / "pyproject.toml", "a") as stream:
        stream.write("# changed\n")
    bootstrap.ready("demo")
    assert len(ran) == 2


def test_it_notices_a_package_that_went_missing(bootstrap: ModuleType, tmp_path: Path) -> None:
    assert bootstrap._complete(sys.executable, "demo"), "pytest, rich and numpy are there"
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text().replace("numpy>=1", "no-such-package>=1"))
    assert not bootstrap._complete(sys.executable, "demo")


def test_a_failed_installation_is_tried_again(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "call", lambda *command: 3)
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            bootstrap.ready("demo")
        assert ended.value.code == 3


def test_a_command_is_shown_and_its_exit_code_returned(
    bootstrap: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.call(sys.executable, "-c", "raise SystemExit(7)") == 7
    assert capfd.readouterr().out == f"$ {sys.executable} -c 'raise SystemExit(7)'\n"


def test_an_old_python_is_told_so(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST", (9, 9))
    with pytest.raises(SystemExit, match=r"run this with python9\.9 or newer"):
        bootstrap.ready("demo")


def test_a_missing_program_is_installed(bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(bootstrap, "call", lambda *command: ran.append(" ".join(command)) or 0)
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="no apt-get to install it with; install a-package"):
        bootstrap.ready_program("a-program", "a-package")
    for name in ("apt-get", "another"):
        (tmp_path / name).touch(mode=0o755)
    bootstrap.ready_program("another", "a-package")
    assert ran == []
    bootstrap.ready_program("a-program", "a-package")
    assert ran[-1] == "sudo apt-get install -q -y --no-install-recommends a-package"


@pytest.mark.parametrize("script", ["bootstrap", "check", "try"])
def test_what_sets_up_needs_nothing_that_has_to_be_set_up(script: str) -> None:
    names = {name.split(".")[0] for name in imports(TOOLS / f"{script}.py")}
    assert names <= sys.stdlib_module_names | {"bootstrap"}
