from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import pytest

from edgeprune.cli.main import VERBS, run
from edgeprune.errors import InputError, InterruptedRun, MissingError
from tests.cli.fakes import EXPORTED, FakePipeline, FakeResult

EXPORT = ("export", "demo", "--target", "openvino", "--latency", "60%")


def raising(error: BaseException) -> NoReturn:
    raise error


def test_stdout_carries_the_result_and_nothing_else(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*EXPORT, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == EXPORTED
    assert "chatter" in err


@pytest.mark.parametrize("code", [0, 5, 6, 7])
def test_the_result_s_exit_code_is_the_run_s(pipeline: FakePipeline, code: int) -> None:
    pipeline.answer = lambda: FakeResult(EXPORTED, code)
    assert run(EXPORT) == code


def test_an_error_is_one_line_and_its_exit_code(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: raising(MissingError("no board is\nreachable", remedy="plug one in"))
    assert run([*EXPORT, "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "error: no board is reachable; plug one in"
    assert "Traceback" not in err


def test_an_error_is_an_object_for_a_program(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: raising(InputError("x is 3", remedy="make it 4"))
    assert run([*EXPORT, "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "schema": "edgeprune.error/1",
        "error": "InputError",
        "message": "x is 3",
        "remedy": "make it 4",
        "exit_code": 2,
    }


def test_debug_shows_the_trace_of_an_error(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: raising(InputError("x is 3"))
    assert run([*EXPORT, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_what_nobody_foresaw_is_a_bug_with_its_trace(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.answer = lambda: raising(ZeroDivisionError("division by zero"))
    assert run([*EXPORT, "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "ZeroDivisionError"
    assert "Traceback" in err
    assert "this is a bug" in err.splitlines()[-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InterruptedRun("stopped")])
def test_an_interrupted_export_says_how_to_go_on(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    pipeline.answer = lambda: raising(error)
    command = "edgeprune export demo --target openvino --latency 60% --out 'my runs'"
    assert run([*EXPORT, "--out", "my runs", "--force"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; run it again: {command} --force"
    Path(".my runs.partial").mkdir()
    Path(".my runs.partial/job.json").touch()
    assert run([*EXPORT, "--out", "my runs", "--force"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; continue with: {command} --resume"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exprot"], "'export'"),
        (["export", "demo", "--latncy", "5ms"], "--latency"),
        (["export", "demo", "--latency"], "--latency"),
        (["export", "demo", "--threads", "two"], "--threads"),
        (["plan", "demo", "--target", "openvino", "--latency", "1ms", "--strategy", "globl"], "did you mean 'global'"),
        (["targets", "surplus"], "surplus"),
    ],
)
def test_wrong_usage_is_one_line(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not pipeline.calls


def test_without_a_word_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeprune {version('edgeprune')}\n"


def test_help_does_not_need_a_sound_configuration(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "edgeprune.toml").write_text("not toml")
    assert run(["export", "--help"]) == 0
    assert run(EXPORT) == 2


PRINTS_FROM_C = """
import os, sys
from edgeprune.cli import main
def run(arguments):
    os.write(1, b"chatter of a C library\\n")
    print("the result")
    return 5
main.run = run
main.main()
"""


def test_what_c_code_prints_stays_off_stdout() -> None:
    done = subprocess.run([sys.executable, "-c", PRINTS_FROM_C], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (5, "the result\n")
    assert "chatter of a C library" in done.stderr


@pytest.mark.parametrize("arguments", [["targets"], ["targets", "--json"], ["export", "--help"]], ids=" ".join)
def test_a_reader_who_has_seen_enough_gets_no_trace(arguments: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeprune", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 0
