"""The scripts for people, as far as they can be run without installing anything."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgeprune.errors import BudgetError, EdgePruneError, OverBudgetError, TableError
from edgeprune.units import parse_latency
from tests.simulated import measurement
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
    monkeypatch.setattr(bootstrap, "_has_pip", os.path.exists)  # which the tests' own Python need not have
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


def test_an_environment_that_was_left_half_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Debian's Python leaves it without python3-venv: a Python, and no pip."""
    monkeypatch.syspath_prepend(str(TOOLS))
    bootstrap = importlib.import_module("bootstrap")
    monkeypatch.delitem(sys.modules, "bootstrap")
    for name, value in (("CHECKOUT", tmp_path), ("VENV", tmp_path / ".venv"), ("_state", lambda: "")):
        monkeypatch.setattr(bootstrap, name, value)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "run", lambda *command: ran.append(command))
    monkeypatch.setattr(bootstrap, "_complete", lambda python, extra: True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    bootstrap.ready("demo")
    assert ran[0] == (sys.executable, "-m", "venv", "--clear", str(tmp_path / ".venv"))


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
    with pytest.raises(SystemExit, match="no sudo to install it with; install a-package"):
        bootstrap.ready_program("a-program", "a-package")
    (tmp_path / "sudo").touch(mode=0o755)
    bootstrap.ready_program("another", "a-package")
    assert ran == []
    bootstrap.ready_program("a-program", "a-package")
    assert ran[-1] == "sudo apt-get install -q -y --no-install-recommends a-package"


@pytest.mark.parametrize("script", ["bootstrap", "check", "try"])
def test_what_sets_up_needs_nothing_that_has_to_be_set_up(script: str) -> None:
    names = {name.split(".")[0] for name in imports(TOOLS / f"{script}.py")}
    assert names <= sys.stdlib_module_names | {"bootstrap"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return what imports a benchmark."""
    monkeypatch.syspath_prepend(str(TOOLS / "bench"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(TOOLS)):
            del sys.modules[name]


def raising(error: EdgePruneError) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "line", "said"),
    [
        (BudgetError("too low"), {"reached": False, "why": "too low"}, "not reachable: too low"),
        (OverBudgetError("too slow"), {"reached": True, "why": "too slow"}, "not kept: too slow"),
    ],
)
def test_a_budget_that_was_not_kept_is_a_line_of_the_table(
    bench: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    error: EdgePruneError,
    line: dict[str, Any],
    said: str,
) -> None:
    budgets = bench("budgets")
    monkeypatch.setattr(budgets, "replace", lambda one, **changes: one)
    monkeypatch.setattr(budgets, "decide", raising(error))
    found = budgets.cut(SimpleNamespace(job=None, dense_ms=2.0), parse_latency("50%"))
    assert found == line
    assert budgets._row({"network": "n", "budget": "50%", "dense_ms": 2.0, **found}).endswith(said)


def test_a_busy_machine_says_nothing_of_a_strategy_or_a_peer(
    bench: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = bench("compare_peers")
    study = object.__new__(peers.Study)
    monkeypatch.setattr(peers, "replace", lambda one, **changes: one)
    busy = TableError("the device was too busy")
    for error, reached in ((OverBudgetError("too slow"), False), (busy, None)):
        monkeypatch.setattr(peers, "decide", raising(error))
        with pytest.raises(TableError) if reached is None else nullcontext():
            assert study._own(SimpleNamespace(choice=None, job=None), "uniform", 1.0)["reached"] is reached
    study.times_ms = {}
    monkeypatch.setattr(study, "_cut_by", lambda peer, ratio: None, raising=False)
    monkeypatch.setattr(study, "_onnx", lambda model: b"", raising=False)
    monkeypatch.setattr(peers, "WidthPlan", SimpleNamespace(dense=lambda graph: None))
    monkeypatch.setattr(peers, "measured_when_quiet", lambda *_: {"network": measurement(1.0, trusted=False)})
    ready = SimpleNamespace(blueprint=SimpleNamespace(at=lambda plan: b""), graph=None, dense_ms=2.0, bench=None)
    with pytest.raises(TableError, match="can't be trusted: a test made it busy"):
        study._peer(ready, peers.PEERS[0], 1.0)
    assert study.times_ms == {}
