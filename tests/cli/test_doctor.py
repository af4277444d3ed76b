from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.cli.main import run
from tests.cli.fakes import FakePipeline, FakeResult

FOUND = {
    "schema": "edgeprune.doctor/1",
    "findings": [
        {"what": "load average", "value": "1.9", "remedy": "stop what else runs"},
        {"what": "openvino", "value": "2025.1", "remedy": ""},
    ],
}


def test_findings_and_what_mends_them(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: FakeResult(FOUND)
    assert run(["doctor", "--target", "openvino"]) == 0
    ((verb, (target, device, _, clean)),) = pipeline.calls
    assert (verb, target, device, clean) == ("doctor", "openvino", "local", False)
    shown = capsys.readouterr().out
    assert "load average" in shown
    assert "stop what else runs" in shown


def test_cleaning_is_of_no_target(pipeline: FakePipeline) -> None:
    assert run(["doctor", "--clean", "--target", "openvino"]) == 2
    assert not pipeline.calls
    Path("edgeprune.toml").write_text('target = "openvino"\n')
    pipeline.answer = lambda: FakeResult(FOUND)
    assert run(["doctor", "--clean"]) == 0


def test_cleaning(pipeline: FakePipeline) -> None:
    pipeline.answer = lambda: FakeResult(FOUND)
    assert run(["doctor", "--device", "ssh://me@board", "--clean"]) == 0
    ((_, (_, device, _, clean)),) = pipeline.calls
    assert (device, clean) == ("ssh://me@board", True)


@pytest.mark.parametrize("arguments", [["--target", "opnvino"], ["--device", "board"]])
def test_wrong_names_are_refused(pipeline: FakePipeline, arguments: list[str]) -> None:
    assert run(["doctor", *arguments]) == 2
    assert not pipeline.calls
