from __future__ import annotations

from pathlib import Path

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
    "inserted": 0.01,
    "unexplained": 0.005,
    "explain": {
        "layer": "head",
        "op": "Gemm",
        "group": "stem",
        "side": "input",
        "of": 4,
        "timed": [1, 4],
        "steps": [
            {"width": 4, "us": 40.0, "source": "measured", "least": 2, "dearest_us": 50.0},
            {"width": 1, "us": 9.0, "source": "measured", "least": 1, "dearest_us": 9.0},
        ],
    },
    "pictures": ["tables/x/report/head.svg"],
}


def test_one_call_with_the_job(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.answer = lambda: FakeResult(PROFILE)
    assert run(["profile", "demo", "--target", "openvino", "--threads", "1", "--explain", "head"]) == 0
    ((verb, (job, _, explain)),) = pipeline.calls
    assert (verb, job, explain) == ("profile", Job("demo", "openvino", threads=1), "head")
    shown = capsys.readouterr().out
    assert shown.index("head") < shown.index("stem"), "the slowest layer comes first"
    assert "75.0 %" in shown, "3 ms of 4 ms"
    assert "1.0 % of it in what the runtime inserted (changes of layout or type), 0.5 % that no layer" in shown
    assert "head (Gemm) over its input channels, which stem decides; the rest is dense:" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip().endswith("us") or " 4 " in line]
    assert ["4", "40", "us", "measured", "2", "to", "3", "50", "us"] in rows
    assert "Picture: tables/x/report/head.svg" in shown


def test_a_precision_that_export_chooses_is_left_out_where_a_file_has_it(pipeline: FakePipeline) -> None:
    Path("edgeprune.toml").write_text('precision = "auto"\n')
    pipeline.answer = lambda: FakeResult(PROFILE)
    assert run(["profile", "demo", "--target", "openvino"]) == 0
    ((_, (job, *_)),) = pipeline.calls
    assert job.precision is None
    assert run(["profile", "demo", "--target", "openvino", "--precision", "auto"]) == 2


def test_a_check_runs_alone(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        "schema": "edgeprune.check/1",
        "target": "openvino",
        "sentence": "this machine is 1.4x slower",
        "usable": True,
        "networks_ms": [{"table": 10.0, "now": 14.0}],
        "repetition": "Median over ...",
        "table": "tables/x",
    }
    pipeline.answer = lambda: FakeResult(found)
    assert run(["profile", "demo", "--target", "openvino", "--check"]) == 0
    ((verb, (job, _)),) = pipeline.calls
    assert (verb, job) == ("check", Job("demo", "openvino"))
    shown = capsys.readouterr().out
    assert "1.4x slower" in shown
    assert "10 ms in the table, 14 ms now" in shown


@pytest.mark.parametrize(("word", "taken_in"), [("--export", False), ("--import", True)])
def test_tables_are_shared_without_a_model_or_a_device(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], tmp_path: Path, word: str, taken_in: bool
) -> None:
    table = {"fingerprint": {"runtime": "openvino", "precision": "int8", "cpu": "A"}, "networks": 15, "new": 3}
    pipeline.answer = lambda: FakeResult(
        {"schema": "edgeprune.tables/1", "folder": "shared", "done": "imported", "tables": [table]}
    )
    (tmp_path / "shared").mkdir()
    assert run(["profile", word, "shared"]) == 0
    assert pipeline.calls == [("share", (Path("shared"), taken_in, None))]
    assert "Imported: shared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--import", "none"], "none is not a folder"),
        (["--export", "a", "--check"], "do one thing each"),
        (["--export", "a", "--target", "openvin"], "did you mean 'openvino'"),
        (["--export", "a", "--target", "openvino", "--precision", "int8"], "--precision was given, and --export and"),
        (["net.py:make", "--import", "a"], "MODEL was given, and --export and --import pass on all tables"),
    ],
)
def test_what_cannot_be_shared_is_said(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run(["profile", *words]) == 2
    assert said in capsys.readouterr().err
    assert not pipeline.calls
