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
            "solver": {"gap": 0.0, "seconds": 0.1},
        },
        {"budget": 2.0, "predicted": None, "band": None, "plan": None, "solver": None},
    ],
}


def test_a_ladder_of_budgets(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: FakeResult(PLANS)
    assert run(["plan", "demo", "--target", "openvino", "--latency", "10ms,2ms"]) == 0
    ((verb, (job, _, budgets)),) = pipeline.calls
    assert (verb, job) == ("plan", Job("demo", "openvino"))
    assert budgets == [LatencyBudget(ms=10), LatencyBudget(ms=2)]
    shown = capsys.readouterr().out
    assert "9 ms to 10 ms" in shown
    assert "below the floor" in shown


def test_a_latency_is_needed(pipeline: FakePipeline) -> None:
    assert run(["plan", "demo", "--target", "openvino"]) == 2
    assert not pipeline.calls
