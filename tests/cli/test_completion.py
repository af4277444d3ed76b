from __future__ import annotations

from pathlib import Path

import pytest
import typer._completion_shared

from edgeprune.cli.main import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a bundle, a checkpoint, and a configuration that is broken."""
    for name, file in (("runs/a", "manifest.json"), ("runs/b", "training.json"), ("runs/.a.partial", "manifest.json")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / file).write_text("{}")
    (tmp_path / "edgeprune.toml").write_text("not toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ex", ["export"]),
        ("export --target on", ["onnxruntime"]),
        ("plan --strategy ", ["latency", "flops", "global", "uniform"]),
        ("train --method l", ["lapp"]),
        ("export --criterion group_l", ["group_l1", "group_l2"]),
        ("export --max-s", ["--max-size"]),
        ("export ", ["demo", "runs/a", "runs/b"]),
        ("verify ", ["runs/a"]),
        ("diff ./", ["./runs/a"]),
        ("report --compare runs/a runs/", ["runs/a"]),
        ("export net", []),
    ],
)
def test_what_a_shell_offers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, offered: list[str]
) -> None:
    monkeypatch.setenv("_EDGEPRUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"edgeprune {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" "))))
    assert run([]) == 0
    assert capsys.readouterr().out.split() == offered


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/edgeprune.sh"),
        ("zsh", ".zfunc/_edgeprune"),
        ("fish", ".config/fish/completions/edgeprune.fish"),
    ],
)
def test_one_command_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, file: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(typer._completion_shared.shellingham, "detect_shell", lambda: (shell, shell))
    assert run(["--install-completion"]) == 0
    assert "_EDGEPRUNE_COMPLETE=complete_" + shell in (tmp_path / file).read_text()
    assert f"{shell} completion installed" in capsys.readouterr().out
