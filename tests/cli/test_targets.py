from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest

from edgeprune.cli.main import run
from edgeprune.errors import MissingError
from edgeprune.latency import worker
from edgeprune.runtimes import cudart
from edgeprune.targets.target import targets
from tests.standins.board import install_board


def test_every_target_is_listed_with_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["schema"] == "edgeprune.targets/1"
    rows = {row["name"]: row for row in listing["targets"]}
    assert set(rows) == set(targets())
    assert rows["openvino"]["usable"]
    assert not rows["jetson"]["usable"]
    assert all(row["usable"] == (row["reason"] == "") for row in rows.values())


def test_a_runtime_without_its_gpu_is_not_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_board("11.4.0.106", tmp_path, monkeypatch)
    assert run(["targets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["targets"]}
    assert rows["nvidia"]["usable"]
    gone = MissingError("no NVIDIA GPU can be used", remedy="install the driver")
    monkeypatch.setattr(cudart, "load_library", lambda: raising(gone))
    assert run(["targets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["targets"]}
    assert (rows["nvidia"]["usable"], rows["nvidia"]["reason"]) == (
        False,
        "no NVIDIA GPU can be used: install the driver",
    )
    assert rows["openvino"]["usable"]
    found = worker.lacking({}, {}, tmp_path)
    assert (found["openvino"], found["tensorrt"]) == ("", rows["nvidia"]["reason"])


def raising(error: Exception) -> NoReturn:
    raise error


def test_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets"]) == 0
    assert "OpenVINO on a CPU" in capsys.readouterr().out
