"""What a manifest keeps of a request leads back to the same request."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import edgeprune
from edgeprune.cli.main import run
from edgeprune.errors import InputError
from edgeprune.job import Job
from edgeprune.request import command_of, input_digests, job_of, kept_request
from edgeprune.units import parse_latency
from tests.cli.fakes import FakePipeline

if TYPE_CHECKING:
    from edgeprune.artifacts.subject import Subject

ASKED: dict[str, Any] = {
    "model": "net.py:make",
    "weights": "w.pt",
    "data": "images.npz",
    "input": "1x3x16x16",
    "submodule": "",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.25],
    "no_mirror": True,
    "target": "openvino",
    "latency": "60%",
    "precision": "fp32",
    "threads": 1,
    "devices": ["local"],
    "seed": 3,
    "epochs": 0,
    "max_drop": 1.5,
    "lock": ["fc", "stem*"],
    "allow_inexact": True,
    "align": 4,
    "rounds": 5,
    "criterion": "l2",
    "strategy": "flops",
    "max_params": 900,
    "max_size": 3600,
    "model_digest": "aa",
    "data_digest": "bb",
}


def manifest(**changes: Any) -> dict[str, Any]:
    return {"job": {**ASKED, **changes}, "source": {"model": "net.py:make"}}


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePipeline:
    """Replace the pipeline, and work in a folder with the files that are named."""
    import sys

    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "edgeprune.pipeline", fake.module())
    monkeypatch.setattr(edgeprune, "pipeline", fake.module(), raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "w.pt", "images.npz"):
        Path(name).write_text(name)
    return fake


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "data": None,
            "data_digest": None,
            "mean": None,
            "std": None,
            "no_mirror": False,
            "epochs": None,
            "allow_inexact": False,
        },
    ],
)
def test_the_command_asks_for_the_same_job(pipeline: FakePipeline, changes: dict[str, Any]) -> None:
    assert run(command_of(manifest(**changes))[1:]) == 0
    ((_, (job, _)),) = pipeline.calls
    assert replace(job, out=None) == job_of(manifest(**changes))


def test_the_job_is_the_one_that_was_asked_for() -> None:
    job = job_of(manifest(), Path("again"))
    assert job == Job(
        model="net.py:make",
        target="openvino",
        latency=parse_latency("60%"),
        weights=Path("w.pt"),
        input_shape=(1, 3, 16, 16),
        data="images.npz",
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.25),
        no_mirror=True,
        precision="fp32",
        threads=1,
        out=Path("again"),
        seed=3,
        epochs=0,
        max_drop=1.5,
        lock=("fc", "stem*"),
        allow_inexact=True,
        align=4,
        rounds=5,
        criterion="l2",
        strategy="flops",
        max_params=900,
        max_size=3600,
    )


def test_every_field_that_makes_another_bundle_is_kept() -> None:
    subject = SimpleNamespace(input_shape=(1, 3, 16, 16), submodule="", digest="aa", data=SimpleNamespace(digest="bb"))
    assert kept_request(job_of(manifest()), cast("Subject", subject)) == ASKED
    aside = {"out", "dry_run", "resume", "force", "allow_unverified"}
    assert {{"input_shape": "input"}.get(one.name, one.name) for one in fields(Job)} - aside == {*ASKED} - {
        "model_digest",
        "data_digest",
    }


def test_python_objects_cannot_be_named() -> None:
    with pytest.raises(InputError, match="made from Python objects"):
        job_of({**manifest(), "source": {"model": ""}})


def test_every_file_that_is_named_is_hashed(pipeline: FakePipeline, tmp_path: Path) -> None:
    Path("bundle").mkdir()
    Path("bundle/manifest.json").write_text("{}")
    Path("images").mkdir()
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("net.py", "w.pt", "images.npz")}
    assert input_digests(job_of(manifest())) == expected
    further = Job(model="demo", target="openvino", weights=Path("bundle"), data="images")
    assert input_digests(further) == {"bundle/manifest.json": hashlib.sha256(b"{}").hexdigest()}
    assert input_digests(Job(model="torchvision:resnet18", target="openvino")) == {}
