from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.errors import InputError
from edgeprune.job import CRITERIA, STRATEGIES, Job, default_out
from edgeprune.records import write_json

JOB = Job("demo", "openvino")


def test_a_plain_job_is_fine() -> None:
    assert JOB.checked() is JOB


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "torchvision:resnet18", "input_shape": (1, 3, 224, 224)},
        {"model": "net.py:make", "data": "net.py:loaders"},
        {"weights": Path("net.py"), "data": "old"},
        {"input_shape": (1, 3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)},
        {"input_shape": (1, 16), "epochs": 0, "seed": 0, "max_drop": 0.0},
        {"out": Path("new/deep/bundle")},
        {"out": Path("net.py"), "dry_run": True},
        {"out": Path("old"), "force": True},
        {"out": Path("old"), "resume": True},
        {"out": Path("empty")},
        {"devices": ("local", "ssh://me@board:2222")},
    ],
)
def test_jobs_that_may_be_right(changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text('{"schema": "edgeprune.manifest/1"}')
    (tmp_path / "empty").mkdir()
    write_json(tmp_path / ".old.partial" / "job.json", "edgeprune.job/1", {})  # a run that was stopped
    assert replace(JOB, **changed).checked()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".old.partial", "empty", "net.py", "old"], (
        "checking writes nothing"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target": "opnvino"}, "did you mean 'openvino'"),
        ({"precision": "int3"}, "precision 'int3' is not for target openvino"),
        ({"model": "dem"}, "did you mean 'demo'"),
        ({"model": "old"}, "model 'old' is unknown"),
        ({"model": "none.py:make"}, "none.py does not exist"),
        ({"model": "net.py"}, "which function"),
        ({"weights": Path("none.pt")}, "none.pt does not exist"),
        ({"weights": Path("old")}, "old is a folder"),
        ({"data": "none.npz"}, "none.npz does not exist"),
        ({"data": "none.py:loaders"}, "none.py does not exist"),
        ({"input_shape": (8, 3, 8, 8)}, "input 8x3x8x8"),
        ({"input_shape": (1,)}, "input 1 "),
        ({"mean": (0.5,)}, "--mean was given without --std"),
        ({"std": (0.5,)}, "--std was given without --mean"),
        ({"mean": (0.5,), "std": (1.0, 1.0)}, "1 values and --std has 2"),
        ({"mean": (0.5,), "std": (0.0,)}, "cannot be divided by"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "cannot be divided by"),
        ({"input_shape": (1, 3, 8, 8), "mean": (0.5,), "std": (1.0,)}, "3 channels"),
        ({"threads": 0}, "--threads 0"),
        ({"epochs": -1}, "--epochs -1"),
        ({"align": 0}, "--align 0"),
        ({"rounds": 0}, "--rounds 0"),
        ({"criterion": "taylr"}, "--criterion 'taylr' is unknown (did you mean 'taylor'?)"),
        ({"strategy": "globl"}, "--strategy 'globl' is unknown (did you mean 'global'?)"),
        ({"precision": "int9"}, "precision 'int9' is not for target openvino (did you mean 'int8'?)"),
        ({"seed": -1}, "--seed -1"),
        ({"max_drop": -0.5}, "--max-drop -0.5"),
        ({"max_drop": float("nan")}, "--max-drop nan"),
        ({"devices": ("lokal",)}, "did you mean 'local'"),
        ({"resume": True, "force": True}, "both given"),
        ({"out": Path("old")}, "old exists already"),
        ({"out": Path("old"), "resume": True}, "old exists already, and no run of it is left to resume"),
        ({"out": Path("old"), "force": True}, "old holds something that is neither a bundle nor a checkpoint"),
        ({"out": Path("net.py"), "force": True}, "net.py is a file"),
        ({"out": Path("net.py/bundle")}, "net.py is a file"),
        ({"out": Path("."), "force": True}, "contains the working folder"),
        ({"out": Path(".."), "resume": True}, "contains the working folder"),
    ],
)
def test_jobs_that_cannot_be_right(
    changed: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").touch()
    with pytest.raises(InputError) as caught:
        replace(JOB, **changed).checked()
    assert said in caught.value.message
    assert caught.value.remedy


def test_an_output_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:  # root may write anywhere
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be written to: Read-only file system"):
        replace(JOB, out=tmp_path / "a" / "b").checked()


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("demo", "demo-jetson"),
        ("torchvision:resnet18", "resnet18-jetson"),
        ("nets/mine.py:make", "make-jetson"),
        ("runs/bundle/", "bundle-jetson"),
    ],
)
def test_where_a_bundle_goes(model: str, folder: str) -> None:
    assert default_out(model, "jetson") == Path("runs") / folder


def test_the_names_are_those_of_the_tables() -> None:
    from edgeprune.budget import strategies
    from edgeprune.pruning import importance

    assert list(importance.CRITERIA) == list(CRITERIA)
    assert list(strategies.STRATEGIES) == list(STRATEGIES)
