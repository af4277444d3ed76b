from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune.artifacts.workspace import Workspace, reserved
from edgeprune.errors import BudgetError, InputError, MissingError

JOB = {"model": "demo", "lock": ["fc"], "seed": 0}


def manifest(what: str) -> str:
    return json.dumps({"schema": "edgeprune.manifest/1", "what": what})


def test_a_step_is_done_once(tmp_path: Path) -> None:
    calls = []

    def work() -> dict[str, int]:
        calls.append(1)
        return {"n": 3}

    assert Workspace(tmp_path / "out", JOB).once("step", work) == {"n": 3}
    assert Workspace(tmp_path / "out", JOB, resume=True).once("step", work) == {"n": 3}
    assert len(calls) == 1


def test_what_a_run_left_is_gone_on_with_or_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    Workspace(tmp_path / "out", JOB)
    Workspace(tmp_path / "out", JOB).once("step", lambda: {"n": 1})  # of nothing there is nothing to lose
    with pytest.raises(InputError, match="interrupted run") as caught:
        Workspace(tmp_path / "out", JOB)
    assert "--resume" in caught.value.remedy
    assert Workspace(tmp_path / "out", JOB, resume=True).once("step", lambda: {"n": 2}) == {"n": 1}
    assert Workspace(tmp_path / "out", JOB, force=True).once("step", lambda: {"n": 2}) == {"n": 2}


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "manifest.json").write_text('{"manifest_version": 3}')
    with pytest.raises(InputError, match="neither a bundle nor a checkpoint"):
        Workspace(tmp_path / "extension", JOB, force=True)


def test_another_job_cannot_resume(tmp_path: Path) -> None:
    Workspace(tmp_path / "out", JOB)
    with pytest.raises(InputError, match="started with --seed 0, not 1"):
        Workspace(tmp_path / "out", {**JOB, "seed": 1}, resume=True)


def test_what_is_known_by_its_hash_alone_is_named_in_words(tmp_path: Path) -> None:
    Workspace(tmp_path / "out", {**JOB, "model_digest": "9f3"}).once("step", dict)
    changed = {**JOB, "model_digest": "07a"}
    with pytest.raises(InputError, match="the network or its weights are not those that the run") as raised:
        Workspace(tmp_path / "out", changed, resume=True)
    assert raised.value.remedy == "give it what it was started with, or start again with --force"
    assert Workspace(tmp_path / "out", changed, force=True).once("step", lambda: {"n": 2}) == {"n": 2}


def test_a_folder_is_written_by_one_run_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "out"
    with reserved(out), reserved(tmp_path / "runs" / "other"):
        with pytest.raises(InputError, match=r"another run is writing .*/runs/out"), reserved(out):
            raise AssertionError("two runs were let in")
        Workspace(out, JOB).discard()
    assert list(tmp_path.iterdir()) == []
    with reserved(out):
        pass  # it is free again


def test_the_bundle_appears_complete_and_the_rest_goes(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "runs" / "out", JOB)
    (work.path("bundle")).mkdir()
    (work.path("bundle") / "model.onnx").write_bytes(b"x")
    assert not work.out.exists()
    work.finish(work.path("bundle"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["out"]
    assert (work.out / "model.onnx").read_bytes() == b"x"


@pytest.mark.parametrize("error", [BudgetError, InputError, OSError])
def test_what_would_only_fail_again_leaves_nothing_behind(tmp_path: Path, error: type[Exception]) -> None:
    with pytest.raises(error), Workspace(tmp_path / "a" / "b" / "out", JOB):
        raise error("no")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [BudgetError, InputError, OSError])
def test_what_was_done_is_kept_whatever_ended_the_run(tmp_path: Path, error: type[Exception]) -> None:
    step, training = (Workspace(tmp_path / name, JOB) for name in ("step", "training"))
    step.once("step", lambda: {"n": 1})
    training.path("training.ckpt").write_bytes(b"epoch 150")
    for work in (step, training):
        with pytest.raises(error), work:
            raise error("no")
    assert Workspace.left(tmp_path / "step", "step") == {"n": 1}
    resumed = Workspace(tmp_path / "training", JOB, resume=True)
    assert resumed.path("training.ckpt").read_bytes() == b"epoch 150"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MissingError])
def test_what_may_go_on_later_is_kept(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), Workspace(tmp_path / "out", JOB):
        raise error("no")
    assert (tmp_path / ".out.partial" / "job.json").is_file()


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists already"):
        Workspace(tmp_path / "out", JOB)
    with pytest.raises(InputError, match="neither a bundle nor a checkpoint"):
        Workspace(tmp_path / "out", JOB, force=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_a_forced_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """The bundle that it was allowed to replace is still there then."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(manifest("old"))
    Workspace(tmp_path / "out", JOB, force=True).once("step", lambda: {"n": 3})
    work = Workspace(tmp_path / "out", JOB, resume=True)
    assert Workspace.left(tmp_path / "out", "step") == work.once("step", dict) == {"n": 3}
    assert Workspace.left(tmp_path / "out", "other") is None
    work.path("bundle").mkdir()
    work.finish(work.path("bundle"))
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / "manifest.json").write_text(manifest("new"))
    with pytest.raises(InputError, match="exists already"):
        Workspace(tmp_path / "out", JOB, resume=True)


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "manifest.json").write_text(manifest("first"))
    (tmp_path / "out").symlink_to("first")
    with Workspace(tmp_path / "out", JOB, force=True) as work:
        work.path("bundle").mkdir()
        (work.path("bundle") / "manifest.json").write_text(manifest("second"))
        work.finish(work.path("bundle"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "out"]
    assert [(tmp_path / name / "manifest.json").read_text() for name in ("first", "out")] == [
        manifest("first"),
        manifest("second"),
    ]
