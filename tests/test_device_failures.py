"""Devices that are not there, or that die in the middle of the work, seen from the command line."""

from __future__ import annotations

import json

import pytest

from edgeprune.cli.main import run
from edgeprune.latency import bench
from tests.loopback import ROOT


def test_a_kill_for_want_of_memory_is_one_line_and_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_WORKER", "tests.targets.crashing_worker")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert run(["profile", "demo", "--target", "openvino", "--quiet", "--json"]) == 3
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["error"], told["exit_code"]) == ("DeviceError", 3)
    assert "was killed by SIGKILL, often for want of memory" in told["message"]
    assert told["remedy"] == "free memory and try again"
    assert len(shown.err.splitlines()) == 1


def test_without_a_board_the_two_commands_that_help_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "demo", "--target", "jetson", "--latency", "10ms"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert "edgeprune export MODEL --target jetson --device ssh://user@jetson" in shown.err
    assert "edgeprune doctor --target jetson --device ssh://user@jetson" in shown.err
