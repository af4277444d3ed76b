"""The main job and the check of its bundle, on a device behind ssh."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeprune import pipeline
from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.cli.main import run
from edgeprune.errors import MissingError
from edgeprune.graph.trace import trace
from edgeprune.job import Job
from edgeprune.latency import bench, profile
from edgeprune.latency.bench import open_bench
from edgeprune.latency.group import BenchGroup
from edgeprune.latency.rule import Rule
from edgeprune.latency.sampling import TOTAL_NETWORKS
from edgeprune.latency.store import TableStore
from edgeprune.targets.ssh import SshDevice
from edgeprune.targets.target import Fingerprint
from edgeprune.units import parse_latency
from tests.loopback import ROOT, Loopback, Wire, wait_for
from tests.onnx_models import residual
from tests.simulated import Wide

QUICK = Rule(warmup_s=0.01, steady_tolerance=0.5, samples_min=2, round_s=0.01, rounds=2, retries=1)
MODEL = "from tests.simulated import Wide\n\n\ndef wide():\n    return Wide()\n"


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_a_bench_over_ssh_measures_runs_and_builds_as_here(loopback: Loopback, target: str) -> None:
    model = residual()
    with open_bench(target, device=loopback.address()) as there, open_bench(target) as here:
        assert there.fingerprint() == here.fingerprint(), "it is the same machine"
        assert there.build(model) == here.build(model)
        times = there.layers({"small": residual(8, 8), "large": residual(48, 24)}, QUICK, layers_s=0.05)
        assert times["small"].engine.median_ms < times["large"].engine.median_ms
        assert "layer1.0.conv2" in {node for row in times["large"].rows for node in row.nodes}


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPRUNE_TABLES", str(tmp_path / "tables"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(profile, "LAYERS_S", 0.0)


def test_an_export_and_a_verification(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's clock is a formula (targets/formula_worker.py), so that it takes no quiet machine."""
    monkeypatch.setattr(bench, "_WORKER", "tests.targets.formula_worker")
    device, out = loopback.address(), tmp_path / "out"
    result = pipeline.export(job(tmp_path, devices=(device,), out=out))
    again = pipeline.verify(out, device)
    assert (result.exit_code, again.exit_code) == (0, 0)
    assert again.content["latency_ms"]["measured"] == pytest.approx(result.content["latency_ms"]["measured"])
    assert again.content["fingerprint"] == result.content["fingerprint"]
    folders = [path.parent.name for path in (tmp_path / "tables").glob("*/fingerprint.json")]
    assert folders == [Fingerprint.from_json(result.content["fingerprint"]).digest]


def test_without_the_device_the_earlier_table_plans_and_nothing_is_called_verified(
    loopback: Loopback, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_WORKER", "tests.targets.formula_worker")
    monkeypatch.setattr(SshDevice, "pauses_s", ())
    device = loopback.address(wire.port)
    there = pipeline.export(job(tmp_path, devices=(device,), out=tmp_path / "there"))
    wire.close()

    gone = pipeline.export(job(tmp_path, devices=(device,), out=tmp_path / "gone"))
    found = gone.content
    assert (gone.exit_code, found["status"], found["rounds"]) == (3, "unverified", 0)
    assert found["fingerprint"] == there.content["fingerprint"]
    assert found["latency_ms"]["predicted"] <= found["latency_ms"]["budget"]
    assert [found["latency_ms"][name] for name in ("measured", "p90")] == [None, None]
    assert found["numerics"]["onnx_vs_torch"] <= 1e-4
    assert found["numerics"]["engine_vs_torch"] is None
    assert "PREDICTED, NOT VERIFIED" in str(gone)
    assert "PREDICTED, NOT VERIFIED" in (tmp_path / "gone" / "report.html").read_text()
    assert not (tmp_path / "gone" / "engine").exists()

    allowed = job(tmp_path, devices=(device,), out=tmp_path / "allowed", allow_unverified=True)
    assert pipeline.export(allowed).exit_code == 0
    rungs = pipeline.plan(allowed, budgets=[parse_latency("60%")]).content["plans"]
    assert rungs[0]["predicted"] == pytest.approx(found["latency_ms"]["predicted"])
    for asked in (job(tmp_path, devices=(device,), threads=1), allowed):
        with pytest.raises(MissingError, match=r"can't be reached|cannot be reached|refused"):
            pipeline.profile(asked)
    with pytest.raises(MissingError):
        pipeline.export(job(tmp_path, devices=(loopback.address(1),), precision="bf16", out=tmp_path / "never"))


@pytest.mark.parametrize("words", [["targets"], ["doctor"], ["doctor", "--target", "openvino"], ["doctor", "--clean"]])
def test_a_device_that_cannot_be_reached_is_one_line_and_exit_code_3(
    words: list[str], loopback: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.know("other_host_key")
    try:
        assert run([*words, "--quiet", "--device", loopback.address()]) == 3
    finally:
        loopback.know("host_key")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert "has changed" in shown.err


def test_what_is_kept_is_told_and_removed(loopback: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--device", loopback.address()]) == 0
    assert loopback.kept()
    assert run(["doctor", "--clean", "--quiet", "--json", "--device", loopback.address()]) == 0
    assert "files kept on the device" in capsys.readouterr().out
    assert loopback.kept() == []


@pytest.mark.slow
def test_the_bundle_and_the_verdict_are_those_of_the_same_machine_without_a_wire(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is a formula, so that both runs see the same times: `pytest -m slow tests/test_over_ssh.py`."""
    monkeypatch.setattr(bench, "_WORKER", "tests.targets.formula_worker")
    found: dict[str, dict[str, Any]] = {}
    checked = {}
    for name, device in {"here": "local", "there": loopback.address()}.items():
        monkeypatch.setenv("EDGEPRUNE_TABLES", str(tmp_path / f"tables-{name}"))
        found[name] = pipeline.export(job(tmp_path, devices=(device,), out=tmp_path / name)).to_json()
        checked[name] = pipeline.verify(tmp_path / name, device).to_json()
    alike = ("status", "fingerprint", "latency_ms", "rounds", "plan", "macs", "numerics")
    assert {key: found["here"][key] for key in alike} == {key: found["there"][key] for key in alike}
    assert found["there"]["status"] == "met"
    assert checked["here"]["latency_ms"] == checked["there"]["latency_ms"]
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    wait_for(lambda: not loopback.agents())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_by_the_real_clock_the_plan_there_is_the_plan_here(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs a machine that is quiet enough to measure on: `pytest -m slow tests/test_over_ssh.py -k real_clock`.

    Both devices have one fingerprint, so that they share the table, and what was decided by it.
    """
    monkeypatch.setattr(profile, "LAYERS_S", 1.0)
    asked = {"model": "demo", "target": "openvino", "latency": parse_latency("60%"), "threads": 1, "epochs": 0}
    found = {
        name: pipeline.export(Job(**asked, devices=(device,), out=tmp_path / name)).to_json()
        for name, device in {"there": loopback.address(), "here": "local"}.items()
    }
    assert found["there"]["status"] == found["here"]["status"] == "met"
    assert found["there"]["fingerprint"] == found["here"]["fingerprint"]
    assert found["there"]["plan"] == found["here"]["plan"]
    for one in found.values():
        assert one["latency_ms"]["measured"] <= one["latency_ms"]["budget"] < one["latency_ms"]["dense"]
    again = pipeline.verify(tmp_path / "there", loopback.address())
    assert again.exit_code == 0


@pytest.mark.slow
def test_two_devices_take_about_half_the_time_and_the_loss_of_one_loses_nothing(
    loopback: Loopback, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are this machine, by a formula as clock; a network takes 1 s: `pytest -m slow tests/test_over_ssh.py`."""
    monkeypatch.setattr(bench, "_WORKER", "tests.targets.formula_worker")
    monkeypatch.setattr(profile, "LAYERS_S", 1.0)
    monkeypatch.setattr(SshDevice, "pauses_s", ())
    model = Wide().eval()
    blueprint = Blueprint(model, trace(model, torch.zeros(1, 3, 16, 16)))
    one, other = (
        open_bench("openvino", device=address) for address in (loopback.address(), loopback.address(wire.port))
    )
    seconds = {}
    with one, other:
        BenchGroup([one, other]).check()
        for name, benches in {"one": [one], "both": [one, other]}.items():
            began = time.monotonic()
            profile.fill(blueprint, BenchGroup(benches), TableStore(tmp_path / name))
            seconds[name] = time.monotonic() - began
        print(f"one device: {seconds['one']:.1f} s, two: {seconds['both']:.1f} s")
        assert seconds["both"] < 0.7 * seconds["one"]  # 8 of 15 networks are one after another: 0.53

        threading.Timer(3.5, wire.close).start()
        group = BenchGroup([other, one])
        profile.fill(blueprint, group, TableStore(tmp_path / "cut"))
        assert group.first is one
    records = {name: TableStore(tmp_path / name).load(one.fingerprint()).records for name in ("one", "both", "cut")}
    assert {name: len(found) for name, found in records.items()} == dict.fromkeys(records, TOTAL_NETWORKS)


@pytest.mark.slow
def test_every_verb_over_ssh(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock is a formula: `pytest -m slow tests/test_over_ssh.py`."""
    monkeypatch.setattr(bench, "_WORKER", "tests.targets.formula_worker")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODEL)

    def edgeprune(*words: str) -> dict[str, Any]:
        assert run([*words, "--device", loopback.address(), "--json", "--quiet"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    asked = ("net.py:wide", "--input", "1x3x16x16", "--target", "openvino")
    usable = {row["name"]: row["usable"] for row in edgeprune("targets")["targets"]}
    assert usable["openvino"]
    assert usable["onnxruntime"]
    findings = {finding["what"] for finding in edgeprune("doctor")["findings"]}
    assert {"processor", "target openvino", "target onnxruntime"} <= findings
    assert edgeprune("profile", *asked)["layers"]
    assert edgeprune("plan", *asked, "--latency", "60%")["plans"][0]["predicted"]
    found = edgeprune("export", *asked, "--latency", "60%", "--out", "bundle")
    assert found["status"] == "met"
    again = edgeprune("verify", "bundle")
    assert (again["status"], again["fingerprint"]) == ("met", found["fingerprint"])
    edgeprune("doctor", "--clean")
    assert loopback.kept() == []


def job(folder: Path, **changes: Any) -> Job:
    path = folder / "network.py"
    path.write_text(MODEL)
    return Job(f"{path}:wide", "openvino", parse_latency("60%"), input_shape=(1, 3, 16, 16), **changes)


def contents(bundle: Path) -> dict[str, bytes]:
    """Return every file of a bundle that does not say when and where it was made."""
    when_and_where = ("manifest.json", "report.html")
    files = [path for path in bundle.rglob("*") if path.is_file() and path.name not in when_and_where]
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}
