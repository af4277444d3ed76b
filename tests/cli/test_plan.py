from __future__ import annotations

import pytest

from edgeprune.cli.main import run
from edgeprune.job import Job
from edgeprune.units import LatencyBudget
from tests.cli.fakes import FakePipeline, FakeResult

PLANS = {
    "schema": "edgeprune.plans/1",
    "target": "openvino",
    "latency_ms": {"dense": 12.0, "floor": 3.0},
    "plans": [
        {
            "budget": 10.0,
            "predicted": 9.5,
            "band": [9.0, 10.0],
            "macs": {"dense": 2e6, "pruned": 1e6},
            "params": {"dense": 2e3, "pruned": 1e3},
            "plan": {},
            "value": 0.45,
            "kept": 0.9,
            "solver": {"gap": 0.0, "seconds": 0.1, "binding": ["--max-params"]},
        },
        {
            "budget": 2.0,
            "predicted": None,
            "band": None,
            "plan": None,
            "solver": None,
            "reason": "the budget of 2 ms is under the floor",
            "remedy": "allow more",
        },
    ],
}


def test_a_ladder_of_budgets(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: FakeResult(PLANS)
    assert run(["plan", "demo", "--target", "openvino", "--latency", "10ms,2ms"]) == 0
    ((verb, (job, _, budgets, explain)),) = pipeline.calls
    assert (verb, job, explain) == ("plan", Job("demo", "openvino"), "")
    assert budgets == [LatencyBudget(ms=10), LatencyBudget(ms=2)]
    shown = capsys.readouterr().out
    assert "9 to 10 ms" in shown
    row = next(line.split() for line in shown.splitlines() if line.strip().startswith("10 ms  "))
    assert row[2:] == [
        "9.5",
        "ms",
        "9",
        "to",
        "10",
        "ms",
        "90.0",
        "%",
        "1",
        "M",
        "1",
        "k",
        "0",
        "%",
        "--max-params",
    ]
    assert "out of reach" in shown
    assert "2 ms: the budget of 2 ms is under the floor; allow more\n" in shown


def test_what_is_limited_and_asked(pipeline: FakePipeline) -> None:
    options = ["--max-params", "1000", "--max-size", "2kB", "--strategy", "flops", "--explain", "stem"]
    pipeline.answer = lambda: FakeResult(PLANS)
    assert run(["plan", "demo", "--target", "openvino", "--latency", "10ms", *options]) == 0
    ((_, (job, _, _, explain)),) = pipeline.calls
    assert job == Job("demo", "openvino", max_params=1000, max_size=2000, strategy="flops")
    assert explain == "stem"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-params", "0"], "--max-params 0 is below 1"),
        (["--max-size", "25"], "size '25' is not a number with a unit"),
        (["--strategy", "flop"], "'flop'"),
    ],
)
def test_bad_limits_are_refused(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run(["plan", "demo", "--target", "openvino", "--latency", "10ms", *options]) == 2
    assert said in capsys.readouterr().err
    assert not pipeline.calls


def test_a_latency_is_needed(pipeline: FakePipeline) -> None:
    assert run(["plan", "demo", "--target", "openvino"]) == 2
    assert not pipeline.calls
