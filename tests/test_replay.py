"""A bundle made again on the device that is a formula: the same, and with one thing changed.

The slow ones: `pytest -m slow tests/test_replay.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from edgeprune.artifacts.contents import write_manifest
from edgeprune.errors import InputError
from edgeprune.pipeline import Result
from edgeprune.replay import _code, replay
from edgeprune.report.differences import Difference
from edgeprune.report.facts import Facts
from tests.listening import Listening
from tests.simulated import SimulatedBench
from tests.test_pipeline import simulate


@pytest.fixture
def device(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedBench:
    """A copy of the folder in which the bundles were made, and the device."""
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    return simulate(monkeypatch, tmp_path / "made" / "tables")


def test_an_untouched_bundle_is_made_again_without_a_difference(device: SimulatedBench) -> None:
    before = Path("60/manifest.json").read_bytes()
    result = replay(Path("60"), Path("again"))
    assert (result.exit_code, result.content["same"], result.content["differences"]) == (0, True, [])
    assert result.content["schema"] == "edgeprune.replay/1"
    assert Path("60/manifest.json").read_bytes() == before
    assert Path("again/plan.json").read_bytes() == Path("60/plan.json").read_bytes()


def test_one_changed_weight_file_is_named(device: SimulatedBench) -> None:
    weights = torch.load("weights.pt", weights_only=True)
    weights["stem.0.weight"][0, 0, 0, 0] += 1
    torch.save(weights, "weights.pt")
    progress = Listening()
    result = replay(Path("60"), progress=progress)
    found = [(one["kind"], one["name"]) for one in result.content["differences"]]
    assert found[:2] == [("input", "weights.pt"), ("input", "model, as loaded")]
    assert ("file", "model.safetensors") in found
    assert result.exit_code == InputError.exit_code
    assert "weights.pt is not the file that the bundle was made from" in progress.said


@pytest.mark.slow
def test_another_version_is_listed(device: SimulatedBench) -> None:
    manifest = json.loads(Path("60/manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    write_manifest(Path("60"), {name: value for name, value in manifest.items() if name not in ("schema", "files")})
    result = replay(Path("60"))
    (found,) = result.content["differences"]
    assert (found["kind"], found["name"], found["before"]) == ("version", "torch", "1.0")
    assert result.exit_code == 7


@pytest.mark.slow
def test_a_slower_device_misses_as_an_export_would(device: SimulatedBench) -> None:
    usual = device.measure
    device.measure = lambda models, rule=None, reference=None: {  # type: ignore[method-assign]
        name: one.rebased(one, one.median_ms * (1.5 if name == "engine" else 1))
        for name, one in usual(models, rule).items()
    }
    result = replay(Path("60"))
    assert result.exit_code == 5
    assert "verdict" in {one["kind"] for one in result.content["differences"]}


def test_a_file_that_is_gone_is_told_before_anything_runs(device: SimulatedBench) -> None:
    Path("weights.pt").unlink()
    with pytest.raises(InputError, match=r"weights.pt, which the bundle was made from, is not there"):
        replay(Path("60"))
    assert not device.built


def test_code_that_came_with_a_bundle_is_not_run(device: SimulatedBench) -> None:
    ran = Path("60") / "net.py"
    ran.write_text("raise SystemExit('it was run')\n")
    manifest = json.loads((Path("60") / "manifest.json").read_text())
    del manifest["schema"], manifest["files"]
    manifest["job"]["model"] = "60/net.py:make"
    write_manifest(Path("60"), manifest)
    with pytest.raises(InputError, match="lies in the bundle"):
        replay(Path("60"))


@pytest.mark.parametrize(
    ("first", "second", "kinds", "code"),
    [
        (0, 0, [], 0),
        (6, 6, [], 0),  # as inaccurate as it was
        (0, 6, ["accuracy"], 6),
        (6, 0, ["accuracy"], 7),
        (5, 5, ["version"], 7),
        (0, 0, ["plan", "fingerprint"], 8),
        (0, 0, ["plan", "fingerprint", "setting"], 2),
    ],
)
def test_the_exit_code(first: int, second: int, kinds: list[str], code: int) -> None:
    before = Facts(Path(), {"manifest.json": {"result": {"exit_code": first}}})
    assert _code([Difference(kind, "", 0, 1) for kind in kinds], before, Result({}, second)) == code
