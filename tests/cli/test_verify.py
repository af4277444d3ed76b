from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.cli.main import run
from tests.cli.fakes import EXPORTED, FakePipeline, FakeResult


def test_one_call_with_the_bundle(pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle").mkdir()
    late = {**EXPORTED, "schema": "edgeprune.verify/1", "status": "missed", "reasons": ["measured 7 ms is over"]}
    pipeline.answer = lambda: FakeResult(late, 5)
    assert run(["verify", "bundle", "--device", "ssh://me@board"]) == 5
    ((verb, (bundle, device, _, *rest)),) = pipeline.calls
    assert (verb, bundle, device, rest) == ("verify", Path("bundle"), "ssh://me@board", [None, None, False])
    assert capsys.readouterr().out.startswith("Missed on openvino.\n- measured 7 ms is over\n")


def test_a_verdict_is_taken_back(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "verdict.json").write_text("{}")
    assert run(["verify", "bundle", "--import", "verdict.json"]) == 0
    assert pipeline.calls[0][1][3] == Path("verdict.json")


def test_data_are_named_and_what_can_t_be_verified_is_allowed(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "images.npz").touch()
    assert run(["verify", ".", "--data", "images.npz", "--allow-unverified"]) == 0
    assert pipeline.calls[0][1][4:] == ("images.npz", True)


def test_a_file_names_neither_data_nor_what_is_allowed(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "edgeprune.toml").write_text('data = "images.py:loaders"\nallow-unverified = true\n')
    assert run(["verify", "."]) == 0
    assert pipeline.calls[0][1][4:] == (None, False)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nowhere"],
        [".", "--device", "board"],
        [".", "--import", "nothing"],
        [".", "--data", "nothing.npz"],
        [".", "--data", "demo", "--import", "verdict.json"],
        [".", "--device", "ssh://me@board", "--import", "verdict.json"],
    ],
)
def test_what_cannot_be_verified(pipeline: FakePipeline, arguments: list[str]) -> None:
    assert run(["verify", *arguments]) == 2
    assert not pipeline.calls
