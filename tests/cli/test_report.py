from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from edgeprune.artifacts.contents import read_manifest
from edgeprune.cli.main import run


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two bundles, which is the working folder."""
    for share in ("60", "40"):
        shutil.copytree(made / share, tmp_path / share)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_bundle_s_own_page_is_left_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("60/report.html").read_bytes()
    assert run(["report", "60", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "edgeprune.report/1",
        "bundles": ["60"],
        "report": "60/report.html",
        "bytes": len(before),
    }
    assert Path("60/report.html").read_bytes() == before


def test_a_page_goes_where_it_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "60", "--out", "page.html"]) == 0
    assert Path("page.html").read_bytes() == Path("60/report.html").read_bytes()
    assert capsys.readouterr().out.startswith("Report: page.html (")
    assert run(["report", "40", "--out", "page.html"]) == 2
    assert run(["report", "40", "--out", "page.html", "--force"]) == 0
    assert Path("page.html").read_bytes() == Path("40/report.html").read_bytes()


def test_a_bundle_without_a_page_gets_one_that_its_manifest_lists(folder: Path) -> None:
    content = Path("60/report.html").read_bytes()
    Path("60/report.html").unlink()
    assert run(["diff", "60", "40"]) == 0, "the manifest lists a page that is not there"
    manifest = json.loads(Path("60/manifest.json").read_text())
    del manifest["files"]["report.html"]
    Path("60/manifest.json").write_text(json.dumps(manifest))
    assert run(["report", "60"]) == 0
    assert Path("60/report.html").read_bytes() == content
    assert "report.html" in read_manifest(Path("60"))["files"]


def test_what_else_lies_in_the_folder_is_none_of_the_bundle(folder: Path) -> None:
    """The verdict of the bundle's own verify.py, which is written again and again."""
    before = Path("60/manifest.json").read_bytes()
    Path("60/verdict.json").write_text("{}")
    assert run(["report", "60", "--force"]) == 0
    assert Path("60/manifest.json").read_bytes() == before, "or a board's verdict were that of another bundle"
    Path("60/verdict.json").write_text("{ }")
    assert run(["diff", "60", "40"]) == 0


def test_several_side_by_side(folder: Path) -> None:
    assert run(["report", "--compare", "60", "40"]) == 0
    assert "2 bundles side by side" in Path("comparison.html").read_text()
    assert run(["report", "--compare", "60", "40"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report"], "no BUNDLE was named"),
        (["report", "nowhere"], "bundle nowhere is not a folder"),
        (["report", "."], "is not a bundle"),
        (["report", "60", "40"], "add --compare"),
        (["report", "60", "--compare"], "--compare was given 1 bundle;"),
        (["report", "60", "--out", "40", "--force"], "40 is a folder"),
        (["diff", "60"], "no B was named"),
        (["replay"], "no BUNDLE was named"),
        (["replay", "60", "--out", "40"], "40 exists already"),
    ],
)
def test_what_cannot_be_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["40", "60"]


def test_a_bundle_does_not_differ_from_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "60", "60"]) == 0
    assert capsys.readouterr().out.startswith("no difference\n")


def test_differences_are_listed_and_no_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "60", "40"]) == 0
    shown = capsys.readouterr().out
    assert "setting    latency" in " ".join(shown.splitlines())
    assert run(["diff", "60", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["same"]
    assert {"kind": "setting", "name": "latency", "before": "60%", "after": "40%"} in found["differences"]


def test_reading_bundles_needs_no_torch(folder: Path) -> None:
    import subprocess

    script = (
        "import sys; from edgeprune.cli.main import run; code = run(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    )
    for words in (["report", "60", "--out", "x.html"], ["diff", "60", "40"]):
        done = subprocess.run([sys.executable, "-c", script, *words, "--quiet"], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "0 False", done.stderr
