"""What the papers' tables are made with, as far as it can be worked out by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from edgeprune.graph.trace import trace
from tests.simulated import SimulatedBench

FOLDER = Path(__file__).resolve().parent.parent / "tools" / "reproduce"
SCRIPTS = ("networks", "study", "rni", "lapp", "lapp_latency")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(FOLDER))
    import lapp
    import lapp_latency
    import networks
    import rni
    import study

    yield {"lapp": lapp, "lapp_latency": lapp_latency, "networks": networks, "rni": rni, "study": study}
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def test_the_networks_are_the_papers(scripts: dict[str, ModuleType]) -> None:
    networks = scripts["networks"]
    models = {name: networks.build(name, 0) for name in networks.NETWORKS}
    image = torch.zeros(networks.CIFAR_INPUT)
    macs = {name: round(trace(model.eval(), image).macs() / 1e6, 2) for name, model in models.items()}
    assert macs == {"vgg16": 313.2, "vgg16-quarter": 19.91, "resnet20": 40.55, "resnet56": 125.49}
    assert len(networks.prunable_norms(models["vgg16"])) == 13
    assert len(networks.prunable_norms(models["resnet56"])) == 27
    share = trace(networks.narrower(3, 0.403).eval(), image).macs() / trace(models["resnet20"], image).macs()
    assert 0.35 < share <= 0.403


def test_filters_are_ranked_as_in_the_published_code(scripts: dict[str, ModuleType]) -> None:
    scores = {"a": np.array([0.1, 0.2, 0.3, 0.4, 0.5]), "b": np.array([0.9, 0.8, 0.7, 0.6, 0.05])}
    kept = scripts["rni"].kept_channels
    # The median of the ten is 0.45: only 0.5 of a is above, so that its best three stay.
    found = kept(scores, 0.5, per_layer=False)
    assert (found["a"].tolist(), found["b"].tolist()) == ([2, 3, 4], [0, 1, 2, 3])
    # The 20 % quantiles of the layers are 0.18 and 0.49.
    found = kept(scores, 0.2, per_layer=True)
    assert (found["a"].tolist(), found["b"].tolist()) == ([1, 2, 3, 4], [0, 1, 2, 3])


def test_the_two_modes_are_counted(scripts: dict[str, ModuleType]) -> None:
    said = scripts["rni"].two_modes({"a": [0.001, 0.019, 0.02, 0.5], "b": [0.2, 0.9, 0.001, 0.001]})
    assert "50.0 % of the channels under 0.02, 37.5 % at 0.2 or above, 12.5 % in between" in said


def test_the_three_accuracies(scripts: dict[str, ModuleType]) -> None:
    history = [
        {"epoch": 1, "accuracy": 0.7, "test": 0.9},
        {"epoch": 2, "accuracy": 0.8, "test": 0.6},
        {"epoch": 3, "accuracy": 0.8, "test": 0.7},
        {"epoch": 4, "accuracy": 0.75, "test": 0.5},
    ]
    assert scripts["study"].accuracies(history) == {"chosen": 0.7, "best": 0.9, "last": 0.5}
    assert scripts["study"].spread([0.5]) == "50.00"
    assert scripts["study"].spread([0.5, 0.7]) == "60.00 ± 14.14"


def test_every_scale_has_its_methods(scripts: dict[str, ModuleType]) -> None:
    rni = scripts["rni"]
    assert {scale: set(networks) for scale, networks in rni.SCALES.items()} == {
        "paper": {"vgg16", "resnet20", "resnet56"},
        "short": {"vgg16-quarter", "resnet20"},
    }
    for scale, networks in rni.SCALES.items():
        for network in networks:
            tried = {name: len(methods) for name, methods in rni.METHODS[scale][network].items()}
            assert tried["UCS"] == 1
            # The baseline is tuned no less than what it is compared with.
            assert tried["L1"] >= tried["RNI"] == (3 if scale == "short" else 1)
    assert set(scripts["lapp"].SCALES) == {("resnet20", "paper"), ("resnet20", "short"), ("resnet18", "paper")}


def test_a_table_in_the_making_has_the_rows_that_are_done(scripts: dict[str, ModuleType]) -> None:
    lapp = scripts["lapp"]
    cell = {"macs_left": 0.4, "params_left": 0.3}
    done = [("dense", (0.5, 0.7)), ("LAPP", (0.6, 0.7))]
    cells = {lapp._cell("resnet20", name, seed): cell | {"last": one[seed]} for name, one in done for seed in (0, 1)}
    study = SimpleNamespace(scale=lapp.SCALES["resnet20", "short"], cells=cells)
    table = lapp._markdown(study, "resnet20", ["dense", "LAPP"])
    assert table.splitlines()[2:] == [
        "| dense | 40.0 % | 30.0 % | 60.00 ± 14.14 (50.0, 70.0) |  |",
        "| LAPP | 40.0 % | 30.0 % | 65.00 ± 7.07 (60.0, 70.0) | +5.00 |",
    ]


@pytest.mark.slow
def test_latency_and_macs_press_to_the_same_latency(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three stages, one after the other, on a device whose latency is a formula and a training of three steps."""
    bench = SimulatedBench()
    monkeypatch.setattr(scripts["lapp_latency"], "open_bench", lambda target: bench)
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (96, 32, 32, 3), np.uint8), np.arange(96) % 10
    np.savez(tmp_path / "images.npz", x_train=images, y_train=labels, x_val=images[:10], y_val=labels[:10])
    small = ["--epochs", "1", "--seeds", "1", "--images", "96", "--tested", "10", "--out", str(tmp_path / "out")]
    for stage in ("measure", "train", "time"):
        given = ["lapp_latency.py", "--data", str(tmp_path / "images.npz"), *small, "--stage", stage]
        monkeypatch.setattr(sys, "argv", given)
        scripts["lapp_latency"].main()
    cells = json.loads((tmp_path / "out" / "results.json").read_text())["cells"]
    for pressed in ("latency", "MACs", "uniform"):
        # A group of eight channels is the formula's step: the last one that went may have taken one step more.
        assert 0.6 < cells[f"{pressed}-0"]["predicted"] <= 0.7
        measured = cells["timed"][f"{pressed}-0"] / cells["timed"]["dense"]
        assert measured == pytest.approx(cells[f"{pressed}-0"]["predicted"], rel=0.02)
    assert "not yet" not in (tmp_path / "out" / "table.md").read_text()
