"""Every class of the error tree, provoked through the command line: its words, its exit code, and what it leaves.

The device is a formula and the network is small; all else is real.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from edgeprune import errors
from edgeprune.cli.main import run
from edgeprune.errors import EdgePruneError
from edgeprune.latency import waiting
from edgeprune.latency.bench import LayerTimes
from edgeprune.pruning import slim
from edgeprune.targets.ssh import SshDevice
from tests.simulated import SimulatedBench, Wide, measurement
from tests.test_pipeline import simulate

NETWORK = ("network.py:wide", "--weights", "weights.pt", "--input", "1x3x16x16")
EXPORT = ("export", *NETWORK, "--target", "openvino", "--lock", "fc", "--out", "new", "--latency")
TRAIN = ("train", *NETWORK, "--method", "none", "--data", "images.npz", "--epochs", "2", "--out", "new")


@dataclass
class Scene:
    """Where a command runs: the working folder, the device, and what may be patched."""

    folder: Path
    device: SimulatedBench
    patch: pytest.MonkeyPatch


@pytest.fixture
def scene(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A folder with a network, its weights, its bundles at 60 % and 40 % and their filled table."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Scene(tmp_path, simulate(monkeypatch, tmp_path / "tables"), monkeypatch)


def snapshot(folder: Path) -> dict[str, str]:
    """Return every file and folder but Python's own caches, and the hash of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def measure(*arguments: Any, **options: Any) -> NoReturn:
        raise error

    return measure


def nothing(scene: Scene) -> None:
    """The scene as it is."""


def a_bug(scene: Scene) -> None:
    scene.patch.setattr(scene.device, "measure", raising(ZeroDivisionError("division by zero")))


def a_key_is_pressed(scene: Scene) -> None:
    scene.patch.setattr(scene.device, "measure", raising(KeyboardInterrupt()))


def other_programs(scene: Scene) -> None:
    scene.device.trusted = False
    scene.patch.setattr(waiting, "PATIENCE_S", 0.0)


def over_ssh(said: str, code: int) -> Callable[[Scene], None]:
    """An ssh client that says something and ends with a code: 255 where it is its own."""

    def arrange(scene: Scene) -> None:
        client = scene.folder / "bin" / "ssh"
        client.parent.mkdir()
        client.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
        client.chmod(0o755)
        scene.patch.setenv("PATH", str(client.parent), prepend=":")
        scene.patch.setattr(SshDevice, "pauses_s", (0.0,))

    return arrange


def slower_than_predicted(scene: Scene) -> None:
    """Whatever the closed loop builds takes three times as long as the formula says."""
    usual = scene.device.layers

    def layers(models: Mapping[str, bytes], *rest: Any, **options: Any) -> dict[str, LayerTimes]:
        found = usual(models, *rest, **options)
        slow = replace(found["network"], engine=measurement(3 * found["network"].engine.median_ms))
        return {**found, "network": slow}

    scene.patch.setattr(scene.device, "layers", layers)


def no_rounding_is_forgiven(scene: Scene) -> None:
    scene.patch.setattr(slim, "TOLERANCE", -1.0)


def another_arithmetic(scene: Scene) -> None:
    """A runtime whose outputs are twice what they should be."""
    usual = scene.device.outputs
    scene.patch.setattr(scene.device, "outputs", lambda *asked: [2 * one for one in usual(*asked)])


def labels_of_its_own(scene: Scene) -> None:
    """Images of all classes, which the dense network tells apart without a mistake, by definition."""
    network = Wide().eval()
    network.load_state_dict(torch.load("weights.pt"))
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        outputs = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
        network.fc.bias -= outputs.mean(0)
    torch.save(network.state_dict(), "weights.pt")
    labels = (outputs - outputs.mean(0)).argmax(1).numpy()
    np.savez("images.npz", x_train=images, y_train=labels, x_val=images, y_val=labels)


@dataclass(frozen=True)
class Case:
    """A command that ends without a result.

    Attributes:
        error: what it ends with.
        arguments: its words.
        what: what is said of it, the value seen among it.
        remedy: what is said to do next.
        arranged: what is made of the scene before.
        measured: what was timed on the way is kept in the table.
        done: what was done on the way is kept for --resume.
    """

    error: type[EdgePruneError]
    arguments: tuple[str, ...]
    what: str
    remedy: str
    arranged: Callable[[Scene], None] = nothing
    measured: bool = False
    done: bool = False


CASES = (
    Case(errors.EdgePruneError, (*EXPORT, "50%"), "ZeroDivisionError: division by zero", "please report it", a_bug),
    Case(
        errors.InputError,
        (*EXPORT, "50%", "--submodule", "onee"),
        "'onee' (did you mean 'one'?)",
        "name",
    ),
    Case(
        errors.InputError,
        (*TRAIN, "--learning-rate", "1e30"),
        "the loss is nan in epoch 2, step 1, with a learning rate of at most 1e+30",
        "lower the learning rate",
        labels_of_its_own,
        done=True,
    ),
    Case(errors.InputError, TRAIN, "images.npz does not exist", "name a folder with train/ and val/"),
    Case(
        errors.UnreachableError,
        ("export", "demo", "--target", "jetson", "--latency", "5ms"),
        "no NVIDIA Jetson with TensorRT is reachable from here: a board that answers on ssh",
        "edgeprune doctor --target jetson",
    ),
    Case(
        errors.UnreachableError,
        ("doctor", "--device", "ssh://me@board"),
        "ssh://me@board cannot be reached: ssh: connect to host board port 22: Connection refused",
        "check the address, and that the device is on: ssh",
        over_ssh("ssh: connect to host board port 22: Connection refused", 255),
    ),
    Case(
        errors.MissingError,
        ("doctor", "--device", "ssh://me@board"),
        "ssh://me@board accepts none of your keys: me@board: Permission denied (publickey).",
        "ssh-copy-id",
        over_ssh("me@board: Permission denied (publickey).", 255),
    ),
    Case(
        errors.DeviceError,
        ("doctor", "--device", "ssh://me@board"),
        "the agent on ssh://me@board did not start (code 1): Illegal instruction",
        "run the same with --debug",
        over_ssh("Illegal instruction", 1),
    ),
    Case(errors.BudgetError, (*EXPORT, "1%"), "is under the floor: the fastest plan takes", "--latency"),
    Case(
        errors.OverBudgetError,
        (*EXPORT, "50%", "--rounds", "1"),
        "the fastest of 1 networks that were built took",
        "allow more time, or more --rounds",
        slower_than_predicted,
        measured=True,
        done=True,
    ),
    Case(
        errors.NumericsError,
        (*EXPORT, "60%"),
        "the compact network differs from the masked one by",
        "with --lock",
        no_rounding_is_forgiven,
        done=True,
    ),
    Case(errors.TableError, (*EXPORT, "50%"), "a test made it busy", "edgeprune doctor", other_programs),
    Case(
        errors.InterruptedRun,
        (*EXPORT, "50%"),
        "interrupted",
        f"continue with: edgeprune {' '.join(EXPORT)} 50%",
        a_key_is_pressed,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.error.__name__)
def test_what_ends_without_a_result(case: Case, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    case.arranged(scene)
    before = snapshot(scene.folder)
    tables = {path: path.read_bytes() for path in (scene.folder / "tables").rglob("*") if path.is_file()}
    assert run([*case.arguments, "--json"]) == case.error.exit_code
    out, err = capsys.readouterr()
    told, line = json.loads(out), err.splitlines()[-1]
    assert told["schema"] == "edgeprune.error/1"
    assert told["exit_code"] == case.error.exit_code
    assert told["error"] in (case.error.__name__, "ZeroDivisionError")
    assert case.what in told["message"]
    assert case.remedy in told["remedy"]
    assert line.removeprefix("error: ") == f"{told['message']}; {told['remedy']}"
    assert ("Traceback" in err) == (case.error is EdgePruneError)
    after = snapshot(scene.folder)
    if case.measured:
        assert all(path.read_bytes().startswith(content) for path, content in tables.items())
        before, after = ({name: was for name, was in one.items() if "tables/" not in name} for one in (before, after))
    kept = {name for name in after if name.startswith(".new.partial")}
    assert bool(kept) == case.done
    assert {name: was for name, was in after.items() if name not in kept} == before


def test_every_class_is_provoked() -> None:
    classes = [EdgePruneError]
    for one in classes:
        classes += one.__subclasses__()
    by_a_verdict = {errors.AccuracyError}
    assert {case.error for case in CASES} | by_a_verdict == set(classes)


@pytest.mark.parametrize(
    ("code", "arguments", "arranged", "said"),
    [
        (
            5,
            ("verify", "60"),
            lambda scene: setattr(scene.device, "slowdown", 3.0),
            r"measured .* ms is over the budget of .* ms; allow more time",
        ),
        (
            6,
            (*EXPORT, "30%", "--data", "images.npz", "--epochs", "0", "--max-drop", "0"),
            labels_of_its_own,
            r"accuracy fell by [\d.]+ points, 0 were allowed; train for more --epochs",
        ),
        (
            7,
            ("verify", "60"),
            another_arithmetic,
            "engine_vs_torch differ by 1 of the largest output, 0.001 is allowed; try --precision fp32",
        ),
    ],
)
def test_what_ends_with_a_verdict(
    code: int,
    arguments: tuple[str, ...],
    arranged: Callable[[Scene], None],
    said: str,
    scene: Scene,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arranged(scene)
    before = snapshot(scene.folder)
    assert run([*arguments, "--quiet"]) == code
    out, err = capsys.readouterr()
    assert re.search(said, out)
    assert err == ""
    after = snapshot(scene.folder)
    changed = {name.split("/")[0] for name in after if after[name] != before.get(name)}
    assert changed == ({"new", "tables"} if "export" in arguments else set())
    assert set(before) <= set(after)


def test_whatever_is_raised_says_what_to_do() -> None:
    names = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EdgePruneError)}
    without = []
    for path in sorted(Path(errors.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            raised = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
            if raised and not any(keyword.arg == "remedy" for keyword in node.keywords):
                without.append(f"{path.name}: {ast.unparse(node)}")
    # The command line puts what to do in its place.
    assert without == ["verbs.py: InterruptedRun('interrupted')"]
