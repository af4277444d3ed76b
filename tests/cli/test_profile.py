from __future__ import annotations

import pytest

from edgeprune.cli.main import run
from edgeprune.job import Job
from tests.cli.fakes import FakePipeline, FakeResult

PROFILE = {
    "schema": "edgeprune.profile/1",
    "target": "openvino",
    "latency_ms": {"dense": 12.0},
    "networks": 30,
    "error": 0.034,
    "rows": {"measured": 2},
    "layers": [
        {"name": "stem", "kind": "Conv", "ms": 1.0, "source": "measured"},
        {"name": "head", "kind": "Gemm", "ms": 3.0, "source": "measured"},
    ],
    "table": "tables/x",
}


def test_one_call_with_the_job(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: FakeResult(PROFILE)
    assert run(["profile", "demo", "--target", "openvino", "--threads", "1"]) == 0
    ((verb, (job, _)),) = pipeline.calls
    assert (verb, job) == ("profile", Job("demo", "openvino", threads=1))
    shown = capsys.readouterr().out
    assert shown.index("head") < shown.index("stem"), "the slowest layer comes first"
    assert "75.0 %" in shown, "3 ms of 4 ms"
