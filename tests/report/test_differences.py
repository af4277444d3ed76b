from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from edgeprune.report.differences import changed_inputs, differences, latency_limit
from edgeprune.report.facts import Facts, place, read_facts

FINGERPRINT = {"runtime": "openvino", "processor": "one"}


def facts(**result: Any) -> Facts:
    manifest = {
        "job": {"model": "net.py:make", "seed": 0, "latency": "6ms", "model_digest": "aa", "data_digest": None},
        "inputs": {"net.py": "11", "weights.pt": "22"},
        "versions": {"torch": "2.9"},
        "files": {"model.onnx": "33", "plan.json": "44", "latency.csv": "55"},
        "result": {
            "status": "met",
            "fingerprint": FINGERPRINT,
            "plan": {"stem": {"width": 8, "of": 16, "modules": ["stem"]}},
            "macs": {"dense": 40, "pruned": 20},
            "params": {"dense": 4, "pruned": 2},
            "numerics": {"engine_vs_torch": 1e-6},
            "accuracy": {"dense": 0.93, "pruned": 0.92, "engine": 0.92},
            "latency_ms": {"budget": 6.0, "dense": 10.0, "predicted": 5.5, "measured": 5.7, "p90": 5.9, "floor": 2.0},
            **result,
        },
    }
    evidence = {"measurement": {"engine": {"spread": 0.03, "p90_ms": 11.0}, "dense": {"spread": 0.01}}}
    return Facts(Path("x"), {"manifest.json": manifest, "evidence.json": evidence, "latency.csv": []})


def listed(after: Facts) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in differences(facts(), after)]


def test_a_bundle_does_not_differ_from_itself() -> None:
    assert listed(facts()) == []


@pytest.mark.parametrize(
    ("at", "value", "expected"),
    [
        (("inputs", "weights.pt"), "99", ("input", "weights.pt")),
        (("job", "model_digest"), "99", ("input", "model, as loaded")),
        (("job", "seed"), 1, ("setting", "seed")),
        (("versions", "torch"), "2.10", ("version", "torch")),
        (("result", "fingerprint"), {**FINGERPRINT, "processor": "two"}, ("fingerprint", "processor")),
        (("result", "plan", "stem", "width"), 9, ("plan", "stem")),
        (("result", "macs", "pruned"), 21, ("size", "macs")),
        (("result", "numerics", "engine_vs_torch"), 2e-6, ("numerics", "engine_vs_torch")),
        (("result", "accuracy", "engine"), 0.9, ("accuracy", "engine")),
        (("files", "model.onnx"), "99", ("file", "model.onnx")),
        (("result", "status"), "missed", ("verdict", "status")),
    ],
)
def test_every_kind_of_difference_is_named(at: tuple[str, ...], value: Any, expected: tuple[str, str]) -> None:
    after = facts()
    files = copy.deepcopy(dict(after.files))
    found = files["manifest.json"]
    for step in at[:-1]:
        found = found[step]
    found[at[-1]] = value
    assert listed(Facts(after.folder, files)) == [expected]


def test_what_changes_by_nature_is_no_difference() -> None:
    files = copy.deepcopy(dict(facts().files))
    files["manifest.json"]["files"]["latency.csv"] = "99"
    assert listed(Facts(Path("x"), files)) == []


def test_latencies_are_the_same_within_their_spread() -> None:
    # Four times the wider spread of 3 %; what disturbed samples took, 11 ms, has no say.
    assert latency_limit(facts(), facts()) == pytest.approx(0.12)
    usual = facts().result["latency_ms"]
    assert listed(facts(latency_ms={**usual, "measured": 5.7 * 1.11, "dense": 11.1})) == []
    assert listed(facts(latency_ms={**usual, "measured": 5.7 * 1.13})) == [("latency", "measured")]
    assert listed(facts(latency_ms={**usual, "measured": None})) == [("latency", "measured")]


def test_bundles_that_no_device_was_there_for_can_be_compared() -> None:
    unmeasured = facts(latency_ms={**facts().result["latency_ms"], "measured": None, "p90": None})
    unmeasured.files["evidence.json"]["measurement"] = {"engine": None, "dense": None}
    assert listed(unmeasured) == [("latency", "measured")]


def test_files_that_are_gone_have_no_value() -> None:
    (one,) = changed_inputs(facts(), {"net.py": "11"})
    assert (one.name, one.before, one.after) == ("weights.pt", "22", None)


def test_places_lead_to_values(bundle: Path) -> None:
    found = read_facts(bundle)
    name = next(iter(found.result["plan"]))
    written = json.loads((bundle / "manifest.json").read_text())["result"]["plan"][name]["width"]
    assert found.at(place("manifest.json", "result", "plan", name, "width")) == written
    assert found.at("manifest.json#/no/such/place") is None
    assert found.at("latency.csv#/0/layer") == found.layers[0]["layer"]
    assert place("f", "a/b", "c~d") == "f#/a~1b/c~0d"
