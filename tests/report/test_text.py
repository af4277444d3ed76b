from __future__ import annotations

import io
from typing import Any

import pytest

from edgeprune.report.outcome import LATENCY_MEANS, verdict
from edgeprune.report.text import RENDERERS, print_result
from tests.cli.fakes import EXPORTED, TRAINED


def shown(document: dict[str, Any], *, verbose: bool = False) -> str:
    stream = io.StringIO()
    print_result(document, stream, verbose=verbose)
    return stream.getvalue()


def sentence(**changed: Any) -> str:
    return "\n".join(line.plain for line in verdict({**EXPORTED, **changed}))


def test_an_export_for_a_person() -> None:
    text = shown(EXPORTED)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("  ") and line.split()}
    assert text.startswith("Met: 5.7 ms measured on openvino, 95.0 % of the budget of 6 ms.\n")
    assert rows["latency"] == ["10", "ms", "5.7", "ms", "-43.0", "%"]
    assert rows["accuracy"] == ["93.0", "%", "92.0", "%", "-1.0", "points"]
    assert rows["MACs"] == ["40", "M", "20", "M", "-50.0", "%"]
    assert rows["parameters"] == ["800", "k", "400", "k", "-50.0", "%"]
    assert rows["layer1.0.conv1"][:4] == ["8", "16", "50.0", "%"]
    assert "stem" not in rows, "a group that keeps all its channels is only counted"
    assert "Groups: 1 of 2 narrowed; 1 kept whole\n" in text
    assert "floor (no plan is faster) 2 ms, 2 rounds" in text
    assert "slim to masked 3.0e-07" in text
    assert "within 0.01 %" in text
    assert "Bundle: runs/x\n" in text
    assert text.endswith(f"{LATENCY_MEANS}\n")


def test_what_is_to_be_known_of_an_engine_and_what_its_latency_means() -> None:
    engine = {"builds": "3", "builds_spread": "1.8%", "unattributed_share": "0.9%"}
    text = shown({**EXPORTED, "engine": engine, "fingerprint": {"runtime": "tensorrt", "copies": "out"}})
    assert "Engine: builds 3, builds spread 1.8%, unattributed share 0.9%\n" in text
    assert "by the GPU's clock" in text.splitlines()[-1]
    assert "Engine:" not in shown({**EXPORTED, "engine": {}})


def test_a_verification_compares_times_of_one_moment() -> None:
    """The dense network was timed at the export: what the engine takes now is not divided by that."""
    latency = {"budget": 6.0, "dense": 10.0, "at_export": 5.7, "measured": 7.0, "p90": 7.5}
    text = shown({**EXPORTED, "schema": "edgeprune.verify/1", "latency_ms": latency})
    rows = [line.split() for line in text.splitlines() if "latency," in line]
    assert rows == [
        ["latency,", "at", "export", "10", "ms", "5.7", "ms", "-43.0", "%"],
        ["latency,", "now", "7", "ms"],
    ]


def test_a_verification_on_a_busy_machine_was_measured_and_is_not_trusted() -> None:
    latency = {"budget": 6.0, "dense": 10.0, "at_export": 5.7, "measured": 7.0, "p90": 7.5}
    busy = ["7 ms was measured and is not to be trusted: others ran"]
    said = sentence(schema="edgeprune.verify/1", status="unverified", latency_ms=latency, reasons=busy)
    assert (
        said
        == "NOT VERIFIED: 7 ms measured for a budget of 6 ms.\n- 7 ms was measured and is not to be trusted: others ran"
    )


def test_a_prediction_is_shown_with_its_band() -> None:
    assert "predicted 5.5 ms, measured" in shown(EXPORTED)
    assert "predicted 5.5 ms (5.2 to 5.8 ms), measured" in shown({**EXPORTED, "band_ms": [5.2, 5.8]})


def test_without_data_no_accuracy_is_shown() -> None:
    nothing = {"dense": None, "pruned": None, "engine": None}
    assert "ccuracy" not in shown({**EXPORTED, "accuracy": nothing})


def test_without_a_measurement_the_prediction_is_shown_as_one() -> None:
    latency = {**EXPORTED["latency_ms"], "measured": None, "p90": None}
    text = shown({**EXPORTED, "status": "unverified", "latency_ms": latency})
    assert text.startswith("PREDICTED, NOT VERIFIED: 5.5 ms predicted for a budget of 6 ms.\n")
    assert "measured 5" not in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"status": "planned"}, "Planned: 5.5 ms predicted for a budget of 6 ms; no training, and no bundle."),
        ({"status": "missed", "reasons": ["too slow"]}, "Missed on openvino.\n- too slow"),
        (
            {"status": "unverified", "reasons": ["PREDICTED, NOT VERIFIED: the device was busy"]},
            "PREDICTED, NOT VERIFIED: 5.5 ms predicted for a budget of 6 ms.\n- the device was busy",
        ),
    ],
)
def test_verdicts(changed: dict[str, Any], said: str) -> None:
    assert sentence(**changed) == said


def test_many_groups_are_cut_short_unless_verbose() -> None:
    plan = {f"g{i}": {"width": 1 + i, "of": 100, "modules": [f"m{i}"]} for i in range(20)}
    short, full = shown({**EXPORTED, "plan": plan}), shown({**EXPORTED, "plan": plan}, verbose=True)
    assert "g11 " in short
    assert "g12 " not in short, "twelve are shown, the most narrowed first"
    assert "Groups: 20 of 20 narrowed; 8 not shown (--verbose shows all)" in short
    assert all(f"g{i} " in full for i in range(20))
    assert "trace" in full
    assert "trace" not in short


def test_names_are_not_read_as_markup() -> None:
    plan = {"[red]x": {"width": 1, "of": 2, "modules": ["[/]"]}}
    assert "[red]x" in shown({**EXPORTED, "plan": plan, "bundle": "runs/[bold]"})


@pytest.mark.parametrize("kind", RENDERERS)
def test_a_pipe_gets_no_colours(kind: str) -> None:
    document = {
        **(TRAINED if kind == "edgeprune.train" else EXPORTED),
        "schema": f"{kind}/1",
        "findings": [{"what": "load", "value": "1", "remedy": "wait"}],
        "bytes": 100_000,
        "differences": [{"kind": "version", "name": "torch", "before": "2.9", "after": None}],
        "latency_limit": 0.02,
        "latency_ms": {**EXPORTED["latency_ms"], "before": 5.7, "after": 5.8},
        "report": "runs/x/report.html",
        "layers": [],
        "networks": 3,
        "options": {"seed": {"value": 0, "origin": "default"}},
        "plans": [],
        "tables": [{"fingerprint": {"cpu": "A"}, "networks": 2, "new": 1}],
        "folder": "shared",
        "done": "exported",
        "sentence": "matches (3.0 %)",
        "usable": True,
        "networks_ms": [{"table": 2.0, "now": 2.1}],
        "repetition": "Median",
        "table": "tables/x",
        "rows": {"measured": 3},
        "targets": [{"name": "x", "title": "X", "runtime": "y", "usable": True, "reason": ""}],
    }
    assert "\x1b" not in shown(document)


def test_a_training_that_told_nothing_apart_says_so() -> None:
    accuracy = {"before": 0.985, "last": 0.932, "best": 0.94}
    said = shown({**TRAINED, "accuracy": accuracy, "left": 0.999})
    assert "accuracy 93.2 % (best epoch 94.0 %, 98.5 % before)" in said
    assert "not told channels apart" in said
    assert "not told channels apart" not in shown(TRAINED)
