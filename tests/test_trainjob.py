from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune import trainjob
from edgeprune.errors import EdgePruneError, InputError, MissingError
from edgeprune.trainjob import TrainJob
from edgeprune.units import parse_latency

RNI = TrainJob("demo", "rni", Path("new"))
LAPP = TrainJob("demo", "lapp", Path("new"), macs=0.4)


@pytest.mark.parametrize(
    ("job", "changed"),
    [
        (RNI, {"strength": 1e-3, "shift": 3.0}),
        (RNI, {"method": "slimming", "strength": 1e-3}),
        (RNI, {"model": "old"}),
        (RNI, {"model": "net.py:make", "weights": Path("old"), "start": "trained"}),
        (LAPP, {"removes": "channels", "bypass": "none"}),
        (LAPP, {"macs": None, "latency": parse_latency("5ms"), "target": "openvino"}),
    ],
)
def test_jobs_that_may_be_right(
    job: TrainJob, changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "training.json").touch()
    assert replace(job, **changed).checked()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("job", "changed", "said"),
    [
        (RNI, {"method": "rnu"}, "did you mean 'rni'"),
        (RNI, {"start": "fresh"}, "--start 'fresh'"),
        (RNI, {"epochs": 0}, "--epochs 0"),
        (RNI, {"batch_size": 0}, "--batch-size 0"),
        (RNI, {"learning_rate": float("nan")}, "--learning-rate nan"),
        (RNI, {"macs": 0.4}, "--macs was given, which does not apply to rni"),
        (RNI, {"method": "none", "strength": 0.1}, "--strength was given, which does not apply to none"),
        (RNI, {"method": "slimming", "shift": 0.1}, "--shift was given, which does not apply to slimming"),
        (RNI, {"resume": True, "force": True}, "both given"),
        (RNI, {"model": "nothing"}, "model 'nothing'"),
        (LAPP, {"macs": None}, "lapp needs a target cost"),
        (LAPP, {"latency": parse_latency("5ms")}, "lapp needs a target cost"),
        (LAPP, {"macs": 1.0}, "--macs 100% leaves nothing"),
        (LAPP, {"macs": None, "latency": parse_latency("5ms")}, "without --target"),
        (LAPP, {"macs": None, "latency": parse_latency("5ms"), "target": "opnvino"}, "did you mean 'openvino'"),
        (
            LAPP,
            {"macs": None, "latency": parse_latency("5ms"), "target": "openvino", "removes": "filters"},
            "a latency is known by channels",
        ),
        (RNI, {"target": "typo"}, "--target was given, and nothing is measured without --latency"),
        (RNI, {"device": "ssh://gpu"}, "--device was given, and nothing is measured without --latency"),
        (LAPP, {"threads": 2}, "--threads was given, and nothing is measured without --latency"),
        (LAPP, {"precision": "fp32"}, "--precision was given, and nothing is measured without --latency"),
        (LAPP, {"bypass": "wide"}, "--bypass 'wide'"),
        (LAPP, {"removes": "chanels"}, "did you mean 'channels'"),
    ],
)
def test_jobs_that_cannot_be_right(
    job: TrainJob, changed: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        replace(job, **changed).checked()
    assert said in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"target": "jetson"}, MissingError, "reachable from here"),
        ({"target": "openvino", "precision": "fp23"}, InputError, "did you mean 'fp32'"),
    ],
)
def test_what_a_latency_is_measured_on(
    changed: dict[str, Any], error: type[EdgePruneError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        replace(LAPP, macs=None, latency=parse_latency("5ms"), **changed).checked()


def test_the_names_are_those_of_the_methods() -> None:
    from edgeprune.training import bypass, lapp

    assert trainjob.REMOVES == lapp.REMOVES
    assert set(trainjob.BYPASSES) == {*bypass.BYPASSES}
