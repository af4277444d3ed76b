"""What a bundle keeps of why it is as it is agrees with the bundle's other files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune.evidence import BINS, trained_histogram
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace


@pytest.fixture
def kept(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "evidence.json").read_text())
    return content


@pytest.fixture
def result(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())["result"]
    return content


def test_layers_stand_in_their_order_with_their_widths(kept: dict[str, Any], result: dict[str, Any]) -> None:
    layers = {one["layer"]: one for one in kept["layers"]}
    assert list(layers) == ["stem.0", "one.0", "one.3", "two.0", "two.3", "fc"]
    dense = {"stem.0": 32, "one.0": 24, "one.3": 32, "two.0": 24, "two.3": 32, "fc": 5}
    assert {name: one["of"] for name, one in layers.items()} == dense
    stream = result["plan"]["stem.0"]["width"]
    for name in ("stem.0", "one.3", "two.3"):
        assert layers[name]["width"] == stream, "what is added has one width"
    for name in ("one.0", "two.0"):
        assert layers[name]["width"] == result["plan"][name]["width"]
    assert [name for name, one in layers.items() if one["locked"]] == ["fc"]


def test_staircases_lead_to_the_predicted_times(bundle: Path, kept: dict[str, Any]) -> None:
    predicted = {
        row["layer"]: float(row["predicted_us"]) for row in csv.DictReader((bundle / "latency.csv").open()) if row["op"]
    }
    assert kept["staircases"]
    for one in kept["staircases"]:
        cost = dict(zip(one["widths"], one["us"], strict=True))
        assert cost[one["width"]] == pytest.approx(predicted[one["layer"]], abs=0.002)
        assert one["widths"][-1] == one["of"]
        # The device's step: 1 us and 1 ns a multiply-accumulate, output channels rounded up to 8 (tests/simulated.py).
        assert cost[one["of"]] > 1.1 * cost[one["of"] - 8]


def test_the_chosen_network_is_the_plan_s(kept: dict[str, Any], result: dict[str, Any]) -> None:
    (chosen,) = [one for one in kept["networks"] if one["chosen"]]
    assert chosen["macs"] == result["macs"]["pruned"]
    assert chosen["predicted_ms"] == pytest.approx(result["latency_ms"]["predicted"])


def test_importance_is_shared_out(kept: dict[str, Any], result: dict[str, Any]) -> None:
    assert (kept["criterion"], kept["trained"]) == ("l2", None)
    assert sum(one["share"] for one in kept["importance"].values()) == pytest.approx(1)
    for name, one in kept["importance"].items():
        whole = result["plan"][name]["width"] == result["plan"][name]["of"]
        assert (one["kept"] == pytest.approx(1)) == whole


def test_what_training_gave_is_counted_by_what_becomes_of_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)).eval()
    means = {"0": np.array([0.0, 0.8, 0.01, 0.79]), "2": np.array([0.41, 0.0])}
    plan = WidthPlan.from_scores(trace(network, torch.zeros(1, 3, 4, 4)), means, {"0": 2, "2": 2})
    found = trained_histogram(means, plan)
    assert found["edges"] == pytest.approx([0.02 * edge for edge in range(BINS + 1)])
    assert {bin: count for bin, count in enumerate(found["removed"]) if count} == {0: 2}
    assert {bin: count for bin, count in enumerate(found["kept"]) if count} == {0: 1, 20: 1, 39: 2}


def test_sizes_and_times_are_those_of_the_files(bundle: Path, kept: dict[str, Any], result: dict[str, Any]) -> None:
    assert kept["bytes"]["onnx"]["pruned"] == (bundle / "model.onnx").stat().st_size < kept["bytes"]["onnx"]["dense"]
    assert kept["bytes"]["engine"] == sum(path.stat().st_size for path in (bundle / "engine").iterdir())
    assert kept["measurement"]["engine"]["median_ms"] == result["latency_ms"]["measured"]
    assert kept["measurement"]["dense"]["median_ms"] == result["latency_ms"]["dense"]
