from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune import trainjob
from edgeprune.cli.main import run
from edgeprune.errors import InterruptedRun
from edgeprune.trainjob import TrainJob
from tests.cli.fakes import TRAINED, FakePipeline, FakeResult


def test_one_call_with_the_job(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: FakeResult(TRAINED)
    options = ("--epochs", "5", "--strength", "1e-3", "--shift", "3", "--seed", "2")
    assert run(("train", "demo", "--method", "rni", *options)) == 0
    ((verb, (job, _)),) = pipeline.calls
    assert verb == "train"
    assert job == TrainJob("demo", "rni", Path("runs/demo-rni"), epochs=5, strength=1e-3, shift=3.0, seed=2)
    out = capsys.readouterr().out
    assert "accuracy 91.0 % (best epoch 92.0 %)" in out
    assert "importance: 50.0 %" in out
    assert "Checkpoint: runs/demo-rni" in out


def test_lapp_takes_a_share(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: FakeResult({**TRAINED, "macs": {"dense": 40e6, "trained": 16e6}})
    assert run(("train", "demo", "--method", "lapp", "--macs", "40%")) == 0
    assert pipeline.calls[0][1][0].macs == 0.4
    assert "MACs 40 M to 16 M" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo"], "no method was named"),
        (["--method", "rni"], "no MODEL was named"),
        (["demo", "--method", "lapp", "--macs", "0.4"], "write it like 40%"),
        (["demo", "--method", "lapp"], "--macs 40%"),
    ],
)
def test_bad_input_is_refused_before_anything_is_started(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["train", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not pipeline.calls


def test_an_interrupted_training_says_how_to_go_on(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> FakeResult:
        raise InterruptedRun("interrupted")

    pipeline.answer = stop
    assert run(["train", "demo", "--method", "rni"]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "interrupted; continue with: edgeprune train demo --method rni --resume"


def test_only_the_first_of_several_processes_speaks(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    pipeline.answer = lambda: FakeResult(TRAINED)
    assert run(["train", "demo", "--method", "rni"]) == 0
    assert capsys.readouterr().out == ""


def test_the_words_are_those_of_the_methods_themselves() -> None:
    from edgeprune.training import bypass, lapp

    assert tuple(bypass.BYPASSES) == trainjob.BYPASSES
    assert lapp.REMOVES == trainjob.REMOVES
