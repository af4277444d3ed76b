"""`edgeprune train` from a job to a checkpoint, and from a checkpoint to a bundle; the device is a formula.

The slow ones measure and export: python -m pytest -m slow tests/test_teach.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import edgeprune
from edgeprune import api, pipeline, shipping, teach, tracing
from edgeprune.artifacts import checkpoint as checkpoints
from edgeprune.artifacts.source import load_source
from edgeprune.artifacts.subject import load_subject
from edgeprune.errors import BudgetError, InputError
from edgeprune.graph.trace import trace
from edgeprune.job import Job
from edgeprune.progress import SILENT
from edgeprune.scoring import scored_by
from edgeprune.training.learner import Learner
from edgeprune.trainjob import TrainJob
from edgeprune.units import parse_latency
from tests.simulated import SimulatedBench, Wide
from tests.source import ROOT

SHAPE = (1, 3, 16, 16)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    bench = SimulatedBench()
    for module in (api, pipeline, tracing, shipping, teach):
        monkeypatch.setattr(module, "open_bench", lambda *args, **options: bench)
    monkeypatch.setenv("EDGEPRUNE_TABLES", str(tmp_path / "tables"))


@pytest.fixture
def network(tmp_path: Path) -> str:
    path = tmp_path / "network.py"
    path.write_text("from tests.simulated import Wide\n\n\ndef wide():\n    return Wide()\n")
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 32), ("val", 16)):
        arrays[f"x_{split}"] = random.integers(0, 255, (count, 16, 16, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = random.integers(0, 5, count)
    np.savez(tmp_path / "images.npz", **arrays)
    return f"{path}:wide"


LOADERS = """
import torch

def both():
    batch = torch.zeros(6, 3, 16, 16), torch.arange(6) % 5
    return [batch, batch], [batch]
"""


def job(tmp_path: Path, network: str, method: str, **changes: Any) -> TrainJob:
    asked: dict[str, Any] = {"epochs": 2, "batch_size": 8, "input_shape": SHAPE, "out": tmp_path / "checkpoint"}
    return TrainJob(network, method, **({"data": str(tmp_path / "images.npz")} | asked | changes))


def exported(tmp_path: Path, network: str, **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"latency": parse_latency("70%"), "out": tmp_path / "bundle", "epochs": 0, **changes}
    weights = tmp_path / "checkpoint"
    found = pipeline.export(Job(network, "openvino", weights=weights, data=str(tmp_path / "images.npz"), **asked))
    return found.to_json()


METHODS = [
    ("rni", {}),
    ("slimming", {}),
    ("none", {}),
    ("lapp", {"macs": 0.6}),
    ("lapp", {"macs": 0.6, "removes": "channels"}),
]


@pytest.mark.parametrize(("method", "options"), METHODS, ids=["rni", "slimming", "none", "lapp", "lapp-channels"])
def test_a_checkpoint_gives_the_network_back(
    tmp_path: Path, network: str, method: str, options: dict[str, Any]
) -> None:
    found = pipeline.train(job(tmp_path, network, method, **options).checked()).to_json()
    folder = tmp_path / "checkpoint"
    assert found["schema"] == "edgeprune.train/1"
    assert found["checkpoint"] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "plan.json", "training.json"]
    assert not (tmp_path / ".checkpoint.partial").exists()
    json.dumps(found, allow_nan=False)

    content = checkpoints.read(folder)
    assert [entry["epoch"] for entry in content["history"]] == [1, 2]
    source = load_source(network, weights=folder)
    assert source.trained
    assert source.input_shape == SHAPE
    x = torch.randn(2, *SHAPE[1:])
    assert torch.equal(edgeprune.load(folder, Wide()).eval()(x), source.model(x))
    assert trace(source.model, torch.zeros(SHAPE)).macs() == found["macs"]["trained"]
    if method == "lapp":
        assert 0.5 < found["macs"]["trained"] / found["macs"]["dense"] <= 0.6
    state = source.model.state_dict()
    assert all(len(values) == len(state[name]) for name, values in source.importances.items())
    assert bool(source.importances) == (method != "none")


@pytest.mark.slow
def test_export_goes_by_the_trained_importances(tmp_path: Path, network: str) -> None:
    pipeline.train(job(tmp_path, network, "rni"))
    folder = tmp_path / "checkpoint"
    found = exported(tmp_path, network)
    assert found["status"] == "met"
    plan = json.loads((tmp_path / "bundle" / "plan.json").read_text())
    trained = checkpoints.importances(checkpoints.read(folder))
    narrowed = [name for name, one in plan["groups"].items() if 0 < one["width"] < one["of"]]
    for name in set(narrowed) & {"one.0", "two.0"}:  # made by one BatchNorm alone
        order = np.argsort(-trained[name.replace(".0", ".1") + ".weight"])
        assert plan["groups"][name]["kept"] == sorted(order[: plan["groups"][name]["width"]].tolist())
    assert narrowed


def test_groups_that_training_said_nothing_about_stay_unless_another_criterion_is_asked_for(
    tmp_path: Path, network: str
) -> None:
    pipeline.train(job(tmp_path, network, "rni"))
    subject = load_subject(network, weights=tmp_path / "checkpoint")
    graph = trace(subject.model, subject.example_inputs)
    asked = Job(network, "openvino")
    whole, criterion = scored_by(asked, subject, graph)
    assert (list(whole.groups), criterion) == (list(graph.groups), "trained")
    lost = {name: values for name, values in subject.importances.items() if name != "one.1.weight"}
    object.__setattr__(subject, "importances", lost)
    some, criterion = scored_by(asked, subject, graph)
    assert set(graph.groups) - set(some.groups) == {"one.0"}
    other = scored_by(Job(network, "openvino", criterion="l2"), subject, graph)
    assert (list(other[0].groups), other[1]) == (list(graph.groups), "l2")
    object.__setattr__(subject, "importances", {"none.weight": np.zeros(1)})
    assert scored_by(asked, subject, graph)[1] == "l2"


# Where filters went, what is left can't be narrowed further: their outputs lie between those of the bypass alone.
@pytest.mark.slow
@pytest.mark.parametrize(("removes", "latency"), [("filters", "100ms"), ("channels", "90%")])
def test_what_lapp_left_becomes_a_bundle(tmp_path: Path, network: str, removes: str, latency: str) -> None:
    pipeline.train(job(tmp_path, network, "lapp", macs=0.7, removes=removes))
    found = exported(tmp_path, network, latency=parse_latency(latency))
    assert found["status"] == "met"
    assert found["numerics"]["onnx_vs_torch"] <= 1e-4
    small = edgeprune.load(tmp_path / "bundle", Wide()).eval()
    inputs, outputs = edgeprune.artifacts.bundle.read_samples(tmp_path / "bundle" / "samples.npz")
    torch.testing.assert_close(small(torch.from_numpy(inputs[0])), torch.from_numpy(outputs[0]), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_lapp_to_a_latency(tmp_path: Path, network: str) -> None:
    found = pipeline.train(
        job(tmp_path, network, "lapp", latency=parse_latency("80%"), target="openvino").checked()
    ).to_json()
    assert 0.6 < found["left"] <= 0.8
    source = load_source(network, weights=tmp_path / "checkpoint")
    assert not [name for name in source.model.state_dict() if name.endswith("slots")], "channels went, not filters"


@pytest.mark.parametrize("slowdown", [1.0, 1.5])
def test_the_cost_of_widths_is_on_the_scale_of_one_table(
    tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch, slowdown: float
) -> None:
    """The device is slower now than when the table was measured; without bypasses the dense network's share is 1."""
    monkeypatch.setattr(teach, "open_bench", lambda *args, **options: SimulatedBench(slowdown=slowdown))
    asked = job(tmp_path, network, "lapp", latency=parse_latency("80%"), target="openvino", bypass="none")
    subject = tracing.subject_of(asked)
    work: Any = SimpleNamespace(once=lambda name, make: make())
    budget = parse_latency("80%")
    share, cost = teach._latency_cost(asked, subject, subject.model, "none", budget, work, SILENT)
    assert share == pytest.approx(0.8)
    assert cost({})[0] == pytest.approx(1.0, rel=0.01)


def test_a_latency_that_is_met_already_trains_nothing(tmp_path: Path, network: str) -> None:
    with pytest.raises(BudgetError, match="within 100ms already"):
        pipeline.train(job(tmp_path, network, "lapp", latency=parse_latency("100ms"), target="openvino"))


def test_a_run_that_was_killed_is_picked_up(tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = pipeline.train(job(tmp_path, network, "rni", out=tmp_path / "other")).to_json()
    save = Learner.save

    def save_then_die(self: Learner, *arguments: Any) -> None:
        save(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(job(tmp_path, network, "rni"))
    monkeypatch.setattr(Learner, "save", save)
    assert not (tmp_path / "checkpoint").exists()
    found = pipeline.train(job(tmp_path, network, "rni", resume=True)).to_json()
    assert found["loss"] == expected["loss"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("checkpoint", "other")]
    assert weights[0] == weights[1]


def test_from_scratch_and_from_trained_weights(tmp_path: Path, network: str) -> None:
    pipeline.train(job(tmp_path, network, "none"))
    again = job(tmp_path, network, "rni", weights=tmp_path / "checkpoint", out=tmp_path / "second")
    subject = tracing.subject_of(again)
    model, trained = teach._start(again, subject)
    assert trained
    assert model is subject.model
    anew, trained = teach._start(job(tmp_path, network, "rni", start="scratch"), subject)
    assert not trained
    assert not torch.equal(anew.fc.weight, subject.model.fc.weight)
    assert bool((anew.stem[1].running_var == 1).all())


def test_random_weights_are_not_taken_for_trained_ones(tmp_path: Path, network: str) -> None:
    asked = job(tmp_path, "torchvision:resnet18", "rni", start="trained", input_shape=(1, 3, 32, 32), data=None)
    with pytest.raises(InputError, match="the weights of torchvision:resnet18 are random"):
        teach._start(asked, tracing.subject_of(asked))


def test_loaders_make_batches_of_their_own(tmp_path: Path, network: str) -> None:
    path = tmp_path / "loaders.py"
    path.write_text(LOADERS)
    asked = job(tmp_path, network, "none", data=f"{path}:both", epochs=1)
    with pytest.raises(InputError, match=r"--batch-size 8 was given, and .*loaders\.py:both makes batches of its own"):
        pipeline.train(asked)
    pipeline.train(replace(asked, batch_size=None))
    assert checkpoints.read(tmp_path / "checkpoint")["recipe"]["batch_size"] == 6


def test_scratch_draws_anew_what_a_function_has_trained(tmp_path: Path, network: str) -> None:
    """A function that loads weights by itself: its BatchNorms tell, and --start scratch is kept where nothing tells."""
    subject = tracing.subject_of(job(tmp_path, network, "rni"))
    assert subject.trained is None
    model, trained = teach._start(job(tmp_path, network, "rni"), subject)
    assert not trained
    assert model is subject.model
    model, _ = teach._start(job(tmp_path, network, "rni", start="scratch"), subject)
    assert not torch.equal(model.fc.weight, subject.model.fc.weight)
    path = Path(network.rpartition(":")[0])
    loads = "def loaded():\n    found = wide()\n    found.stem[1].running_mean += 1\n    return found\n"
    path.write_text(f"{path.read_text()}\n\n{loads}")
    loaded = tracing.subject_of(job(tmp_path, f"{path}:loaded", "rni"))
    assert loaded.trained is True
    model, trained = teach._start(job(tmp_path, f"{path}:loaded", "rni"), loaded)
    assert trained
    assert model is loaded.model


def test_lapp_is_not_done_twice(tmp_path: Path, network: str) -> None:
    pipeline.train(job(tmp_path, network, "lapp", macs=0.7))
    weights = tmp_path / "checkpoint"
    with pytest.raises(InputError, match="trained by lapp already"):
        pipeline.train(job(tmp_path, network, "lapp", macs=0.5, weights=weights, out=tmp_path / "second"))


def test_lapp_cuts_whole_networks_alone(tmp_path: Path, network: str) -> None:
    """What it kept could not be told of a network that was cut before, and the training would be lost."""
    pipeline.train(job(tmp_path, network, "none", epochs=1))
    exported(tmp_path, network)
    with pytest.raises(InputError, match="was cut already"):
        pipeline.train(job(tmp_path, network, "lapp", macs=0.5, weights=tmp_path / "bundle", out=tmp_path / "second"))


def test_a_changed_checkpoint_is_refused(tmp_path: Path, network: str) -> None:
    pipeline.train(job(tmp_path, network, "none", epochs=1))
    with open(tmp_path / "checkpoint" / "model.safetensors", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(InputError, match=r"model\.safetensors was changed"):
        load_source(network, weights=tmp_path / "checkpoint")


def test_code_is_executed_only_where_it_is_named(tmp_path: Path, network: str) -> None:
    pipeline.train(job(tmp_path, network, "none", epochs=1))
    with pytest.raises(InputError, match="code is executed only where it is named"):
        load_source(str(tmp_path / "checkpoint"))


@pytest.mark.slow
def test_two_processes_share_one_run_of_the_verb(tmp_path: Path, network: str) -> None:
    def launched(batch: str) -> subprocess.CompletedProcess[str]:
        # `accelerate launch --cpu --num_processes 2` starts one process only, for mpirun to start the others.
        launch = ["--standalone", "--nproc-per-node", "2"]
        train = ["train", network, "--method", "rni", "--data", str(tmp_path / "images.npz"), "--input", "1x3x16x16"]
        rest = ["--epochs", "2", "--batch-size", batch, "--out", str(tmp_path / "out"), "--json"]
        return subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "edgeprune", *train, *rest],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *sys.path])),
            },
            capture_output=True,
            text=True,
            timeout=240,
        )

    first = launched("8")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("Training from scratch with rni") == 1
    found = json.loads(first.stdout)  # one object: only the first process writes
    assert (found["status"], found["epochs"]) == ("trained", 2)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert stored.keys() == load_source(network, input_shape=SHAPE).model.state_dict().keys()
    assert all(bool(torch.isfinite(one).all()) for one in stored.values())
    # What the first process refuses ends the other.
    again = launched("8")
    assert again.returncode != 0
    assert "exists already" in json.loads(again.stdout)["message"]
    # What both refuse is at most one object: whoever is later may be ended before it has spoken.
    (tmp_path / "out").rename(tmp_path / "done")
    uneven = launched("9")
    assert uneven.returncode != 0
    assert "can't be shared evenly by 2 processes" in uneven.stderr
    assert uneven.stdout.count("edgeprune.error/1") <= 1
