from __future__ import annotations

import json

import pytest

from edgeprune.cli.main import run
from edgeprune.targets.target import targets


def test_every_target_is_listed_with_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["schema"] == "edgeprune.targets/1"
    rows = {row["name"]: row for row in listing["targets"]}
    assert set(rows) == set(targets())
    assert rows["openvino"]["usable"]
    assert not rows["jetson"]["usable"]
    assert all(row["usable"] == (row["reason"] == "") for row in rows.values())


def test_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets"]) == 0
    assert "OpenVINO on a CPU" in capsys.readouterr().out
