from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.cli.main import run
from edgeprune.job import Job
from edgeprune.units import LatencyBudget
from tests.cli.fakes import FakePipeline

EXPORT = ("export", "demo", "--target", "openvino", "--latency", "60%")


def test_one_call_with_the_job(pipeline: FakePipeline) -> None:
    assert run(EXPORT) == 0
    ((verb, (job, _)),) = pipeline.calls
    assert verb == "export"
    assert job == Job("demo", "openvino", LatencyBudget(fraction=0.6), out=Path("runs/demo-openvino"))


@pytest.mark.parametrize("verb", ["export", "plan"])
@pytest.mark.parametrize(
    ("model", "warned"),
    [
        (["torchvision:resnet18"], 1),
        (["timm:resnet18"], 1),
        (["torchvision:resnet18", "--weights", "w.pt"], 0),
        (["demo"], 0),
    ],
)
def test_random_weights_are_warned_about_once(
    pipeline: FakePipeline,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    model: list[str],
    warned: int,
) -> None:
    (tmp_path / "w.pt").touch()
    run([verb, *model, "--target", "openvino", "--latency", "60%"])
    err = " ".join(capsys.readouterr().err.split())
    assert err.count(f"Warning: the weights of {model[0]} are random.") == warned
    assert err.count("pass --weights FILE") == warned


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "demo", "--target", "opnvino", "--latency", "5ms"], "did you mean 'openvino'"),
        (["export", "demo", "--target", "openvino", "--latency", "10"], "did you mean 10ms?"),
        (["export", "nothing", "--target", "openvino", "--latency", "5ms"], "'nothing'"),
        (
            ["export", "demo", "--target", "openvino", "--latency", "9ms,60%"],
            "one network, and --latency 9ms,60% asks for 2",
        ),
        ([*EXPORT, "--explain", "stem"], "--explain"),
        ([*EXPORT, "--out", "there"], "there exists already"),
        ([*EXPORT, "--weights", "w.pt"], "w.pt does not exist"),
        ([*EXPORT, "--rounds", "0"], "--rounds 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_started(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "manifest.json").touch()
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not pipeline.calls
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
