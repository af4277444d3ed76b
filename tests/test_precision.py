"""`--precision auto` on devices whose latency is a formula, int8 being 2.5 times as fast; outputs are real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import cutting, pipeline, precision, prepare, shipping, tracing
from edgeprune.budget.strategies import search
from edgeprune.errors import BudgetError, InputError
from edgeprune.job import Job
from edgeprune.precision import EXACTNESS, ChosenPrecision, Trial, choose_precision, divided, preferred
from edgeprune.progress import SILENT
from edgeprune.replay import replay
from edgeprune.runtimes.base import SessionSettings
from edgeprune.units import parse_latency
from tests.simulated import SimulatedBench


@pytest.fixture(autouse=True)
def devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def opened(target: str, **options: Any) -> SimulatedBench:
        if options["precision"] in ("bf16", "fp16"):
            raise InputError(f"this processor has no {options['precision']}", remedy="")
        return SimulatedBench(SessionSettings(options["precision"] or "fp32"))

    for module in (pipeline, precision, tracing, shipping):
        monkeypatch.setattr(module, "open_bench", opened)
    monkeypatch.setenv("EDGEPRUNE_TABLES", str(tmp_path / "tables"))


@pytest.fixture
def network(tmp_path: Path) -> str:
    path = tmp_path / "network.py"
    path.write_text("from tests.simulated import Wide\n\n\ndef wide():\n    return Wide()\n")
    return f"{path}:wide"


@pytest.mark.parametrize(("count", "fitted"), [(1100, 512), (300, 150)])
def test_what_judges_has_neither_refitted_nor_quantized(count: int, fitted: int) -> None:
    numbers = torch.arange(count)
    drawn = list(zip(numbers.float().split(64), numbers.split(64), strict=True))
    for part, expected in zip(divided(drawn), (range(fitted), range(fitted, count)), strict=True):
        for images in zip(*part, strict=True):
            assert torch.cat(images).tolist() == list(expected)


@pytest.mark.slow  # pytest -m slow tests/test_precision.py
def test_a_budget_that_int8_meets_uncut_ships_int8_uncut(tmp_path: Path) -> None:
    """45 % of the float32 network's time; in int8 the whole network takes a little over 40 %."""
    asked = Job("demo", "openvino", parse_latency("45%"), precision="auto", epochs=0, out=tmp_path / "out")
    result = pipeline.export(asked)
    found = result.content
    assert result.exit_code == 0
    assert found["fingerprint"]["precision"] == found["precision"]["chosen"] == "int8"
    assert all(group["width"] == group["of"] for group in found["plan"].values())
    trials = {trial["precision"]: trial for trial in found["precision"]["tried"]}
    assert trials["bf16"]["reason"] == "this processor has no bf16"
    assert trials["int8"]["kept"] == pytest.approx(1)
    assert trials["fp32"]["kept"] < trials["int8"]["kept"]
    assert trials["int8"]["accuracy"] > trials["fp32"]["accuracy"] - 0.005
    assert found["latency_ms"]["budget"] == pytest.approx(0.45 * trials["fp32"]["dense_ms"])
    assert found["quantization"] == {"by": "simulated 1", "images": 300, "of": "training set", "seed": 0}
    assert found["accuracy"]["engine"] > found["accuracy"]["pruned"] - 0.02
    assert found["numerics"]["onnx_vs_torch"] < 1e-4 < found["numerics"]["engine_vs_torch"] < 0.5
    assert found["precision"]["why"].startswith("int8 was taken for")


def test_without_data_int8_is_left_out_and_the_rest_compared_by_widths(network: str) -> None:
    asked = Job(network, "openvino", parse_latency("60%"), precision="auto", input_shape=(1, 3, 16, 16))
    taken = choose_precision(asked, SILENT)
    assert taken.job == replace(asked, precision="fp32")  # 60 % of whatever float32 takes next time
    assert ChosenPrecision.of(asked, taken.subject, taken.to_json()) == replace(taken, scores=None)
    reasons = {trial.precision: trial.reason for trial in taken.trials}
    assert "no training images" in reasons["int8"]
    assert taken.trials[0].accuracy is None
    with pytest.raises(BudgetError, match="no precision reaches"):
        choose_precision(
            Job(network, "openvino", parse_latency("1us"), precision="auto", input_shape=(1, 3, 16, 16)), SILENT
        )


def test_every_precision_is_tried_by_the_strategy_that_was_asked_for(network: str) -> None:
    asked = Job(network, "openvino", parse_latency("60%"), precision="auto", input_shape=(1, 3, 16, 16))
    kept = {}
    for strategy in ("latency", "uniform"):
        job = replace(asked, strategy=strategy)
        kept[strategy] = choose_precision(job, SILENT).trials[0].kept
        with prepare.prepare(replace(job, precision="fp32"), SILENT) as ready:
            expected = search(ready.choice, ready.table).best(ready.budget.of(ready.dense_ms) * 1000).value
        assert kept[strategy] == pytest.approx(expected)
    assert kept["uniform"] < kept["latency"]


@pytest.mark.slow  # five tables
def test_a_run_that_is_resumed_keeps_its_precision(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Job(
        network, "openvino", parse_latency("60%"), precision="auto", input_shape=(1, 3, 16, 16), out=tmp_path / "out"
    )
    with monkeypatch.context() as broken:
        broken.setattr(cutting, "ship", raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pipeline.export(asked)
    with monkeypatch.context() as broken:
        broken.setattr(pipeline, "choose_precision", raising(AssertionError))
        found = pipeline.export(replace(asked, resume=True)).content
    assert (found["status"], found["precision"]["chosen"]) == ("met", "fp32")
    assert replay(tmp_path / "out").content["differences"] == []


def raising(error: type[BaseException]) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        raise error

    return call


def test_an_int8_engine_is_not_shipped_without_images(network: str, tmp_path: Path) -> None:
    asked = Job(network, "openvino", parse_latency("60%"), precision="int8", input_shape=(1, 3, 16, 16), out=tmp_path)
    with pytest.raises(InputError, match="calibrated on training images, and there are none"):
        pipeline.export(asked)


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        ([Trial("fp32", 10, 0.6, 0.80), Trial("int8", 4, 1.0, 0.93)], "int8"),
        ([Trial("fp32", 10, 0.9, 0.93), Trial("int8", 4, 1.0, 0.91)], "fp32"),
        ([Trial("fp32", 10, 0.9, 0.930), Trial("int8", 4, 1.0, 0.926)], "int8"),  # equal, and int8 is uncut
        ([Trial("fp32", 10, 1.0), Trial("bf16", 6, 1.0)], "fp32"),  # neither is cut
        ([Trial("fp32", 10, 0.7), Trial("bf16", 6, 0.9)], "bf16"),
        ([Trial("fp32", reason="no"), Trial("bf16", 6, 0.1)], "bf16"),
    ],
)
def test_most_accurate_then_least_cut_then_most_exact(trials: list[Trial], chosen: str) -> None:
    found = preferred(trials)
    assert found is not None
    assert found.precision == chosen


@given(st.lists(st.sampled_from(EXACTNESS), unique=True).flatmap(lambda names: st.permutations(names)))
def test_the_order_of_trials_does_not_matter(names: list[str]) -> None:
    found = preferred([Trial(name, 1.0, 1.0, 0.9) for name in names])
    assert (found.precision if found else None) == min(names, key=EXACTNESS.index, default=None)


def test_auto_needs_a_latency() -> None:
    with pytest.raises(InputError, match="--precision auto is chosen by edgeprune export alone"):
        Job("demo", "openvino", precision="auto").checked()
    assert Job("demo", "openvino", parse_latency("50%"), precision="auto").checked()
