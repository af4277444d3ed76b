from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeprune.artifacts.contents import read_manifest, write_manifest
from edgeprune.errors import InputError
from edgeprune.records import write_json
from edgeprune.report.facts import EVIDENCE
from edgeprune.report.html import comparison, page
from edgeprune.units import format_bytes, format_count, format_ms, format_percent, format_seconds
from tests.report.pages import Page

MOST_BYTES = 2_000_000
WRITTEN = {
    "ms": format_ms,
    "us": lambda us: format_ms(us / 1000),
    "percent": format_percent,
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "whole": lambda value: f"{value:d}",
    "factor": lambda value: f"{value:.3g}",
    "tiny": lambda value: f"{value:.1e}",
}


def stored(folder: Path, place: str) -> float:
    """Read a number of a bundle from the files themselves."""
    name, _, pointer = place.partition("#/")
    if name.endswith(".csv"):
        row, column = pointer.split("/")
        return float(list(csv.DictReader((folder / name).open()))[int(row)][column])
    found: Any = json.loads((folder / name).read_text())
    for step in pointer.split("/"):
        found = found[int(step) if isinstance(found, list) else step]
    return float(found)


def changed(bundle: Path, folder: Path, **result: Any) -> Path:
    """Return a copy of a bundle whose manifest has another result."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["result"].update(result)
    write_manifest(folder, {name: value for name, value in manifest.items() if name not in ("schema", "files")})
    return folder


def test_every_number_on_the_page_is_the_bundle_s(bundle: Path) -> None:
    numbers = Page((bundle / "report.html").read_text()).numbers
    assert len(numbers) > 100
    for one in numbers:
        value = stored(bundle, one.place)
        assert float(one.value) == value, one.place
        assert one.text == WRITTEN[one.form](int(value) if one.form == "whole" else value), one.place


def test_layers_that_were_counted_in_another_state_are_told(bundle: Path, tmp_path: Path) -> None:
    assert "far from 1" not in (bundle / "report.html").read_text()
    folder = changed(bundle, tmp_path / "disturbed")
    evidence = json.loads((folder / "evidence.json").read_text())
    write_json(folder / "evidence.json", EVIDENCE, {**evidence, "layers_factor": 0.5156})
    manifest = {name: value for name, value in read_manifest(bundle).items() if name not in ("schema", "files")}
    write_manifest(folder, manifest)
    said = page(folder)
    assert ">0.516</" in said
    assert "far from 1" in said


def test_every_number_of_the_table_is_on_the_page(bundle: Path) -> None:
    places = {one.place for one in Page((bundle / "report.html").read_text()).numbers}
    for at, row in enumerate(csv.DictReader((bundle / "latency.csv").open())):
        for column in ("cin", "cout", "dense_us", "predicted_us", "measured_us"):
            assert (f"latency.csv#/{at}/{column}" in places) == bool(row[column])


def test_the_verdict_is_one_sentence_with_its_numbers(bundle: Path) -> None:
    shown = Page((bundle / "report.html").read_text())
    latency = read_manifest(bundle)["result"]["latency_ms"]
    said = shown.said("verdict")
    assert said.startswith(
        f"Met: {format_ms(latency['measured'])} measured, within the budget of {format_ms(latency['budget'])} (half of"
    )
    assert f"the dense network takes {format_ms(latency['dense'])} and the plan was predicted at" in said
    assert said.endswith("as ONNX.")


def test_predicted_and_measured_are_told_apart(bundle: Path) -> None:
    text = (bundle / "report.html").read_text()
    kinds = {one.place: one.kind for one in Page(text).numbers}
    assert kinds["manifest.json#/result/latency_ms/measured"] == "measured"
    assert kinds["manifest.json#/result/latency_ms/predicted"] == "predicted"
    for at, row in enumerate(csv.DictReader((bundle / "latency.csv").open())):
        expected = row["source"] if row["source"] in ("interpolated", "assumed") else "predicted"
        assert kinds[f"latency.csv#/{at}/predicted_us"] == expected
    figure = text[text.index('<figure id="latency">') : text.index("</figure>", text.index('<figure id="latency">'))]
    assert "<pattern" in figure, "bars by their source are hatched, not only coloured"


def test_the_page_is_one_file_that_loads_and_runs_nothing(bundle: Path) -> None:
    text = (bundle / "report.html").read_text()
    shown = Page(text)
    assert shown.figures() == {"network", "latency", "rounds", "staircases"}
    assert not {tag for tag, _ in shown.tags} & {"script", "link", "img", "iframe", "object"}
    for tag, attributes in shown.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    assert not re.findall(r"url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert len(text.encode()) < MOST_BYTES / 10


def test_the_modes_that_training_made_are_drawn_where_there_are_any(bundle: Path, tmp_path: Path) -> None:
    folder = changed(bundle, tmp_path / "trained")
    evidence = json.loads((folder / "evidence.json").read_text())
    evidence["trained"] = {"edges": [0.0, 0.5, 1.0], "kept": [0, 5], "removed": [7, 0]}
    write_json(folder / "evidence.json", evidence.pop("schema"), evidence)
    text = page(changed(folder, tmp_path / "listed"))
    assert "trained" in Page(text).figures()
    assert "kept (5)" in text
    assert "removed (7)" in text


def test_ids_are_unique_and_references_lead_somewhere(bundle: Path) -> None:
    text = (bundle / "report.html").read_text()
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', text)) <= set(ids)


def test_the_same_bundle_gives_the_same_page_wherever_it_lies(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "moved")
    assert page(tmp_path / "moved") == (bundle / "report.html").read_text()


def test_the_page_is_a_file_of_the_bundle(bundle: Path, tmp_path: Path) -> None:
    assert "report.html" in read_manifest(bundle)["files"]
    shutil.copytree(bundle, tmp_path / "copy")
    (tmp_path / "copy" / "report.html").write_text("better numbers")
    with pytest.raises(InputError, match=r"report.html was changed since"):
        page(tmp_path / "copy")


def test_what_was_locked_says_why(bundle: Path) -> None:
    said = Page((bundle / "report.html").read_text()).said("locked")
    assert "fc" in said
    for one in json.loads((bundle / "evidence.json").read_text())["locked"]:
        assert one["reason"] in said


def test_an_unverified_result_says_so_first(bundle: Path, tmp_path: Path) -> None:
    reasons = ["PREDICTED, NOT VERIFIED: the device was busy"]
    folder = changed(bundle, tmp_path / "busy", status="unverified", reasons=reasons)
    said = Page(page(folder)).said("verdict")
    assert said.startswith("PREDICTED, NOT VERIFIED: ")
    assert reasons[0] in said
    assert " measured, within" not in said


def test_the_band_of_the_prediction_is_shown_where_there_is_one(bundle: Path, tmp_path: Path) -> None:
    folder = changed(bundle, tmp_path / "b", band_ms=[0.011, 0.0125])
    numbers = {one.place: one.text for one in Page(page(folder)).numbers}
    assert [numbers[f"manifest.json#/result/band_ms/{at}"] for at in (0, 1)] == ["11 us", "12.5 us"]


def test_accuracy_is_said_where_it_was_measured(bundle: Path, tmp_path: Path) -> None:
    assert "accuracy" not in Page((bundle / "report.html").read_text()).said("verdict")
    folder = changed(bundle, tmp_path / "b", accuracy={"dense": 0.93, "pruned": 0.92, "engine": 0.915})
    assert "accuracy 93.0 % dense, 92.0 % pruned, 91.5 % of the engine" in Page(page(folder)).said("verdict")


def test_a_bundle_without_evidence_has_a_page_without_it(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "old")
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    for name in ("evidence.json", "report.html"):
        (tmp_path / "old" / name).unlink()
    kept = {name: value for name, value in manifest.items() if name not in ("schema", "files", "inputs")}
    write_manifest(tmp_path / "old", kept)
    shown = Page(page(tmp_path / "old"))
    assert shown.figures() == {"latency"}
    assert "locked" not in shown.words


def test_names_cannot_break_out_of_the_page(bundle: Path, tmp_path: Path) -> None:
    folder = changed(bundle, tmp_path / "b", reasons=["<script>alert(1)</script>"])
    text = page(folder)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_bundles_side_by_side(made: Path, tmp_path: Path) -> None:
    folders = [
        changed(made / share, tmp_path / share, accuracy={"dense": 0.93, "pruned": 0.9, "engine": accuracy})
        for share, accuracy in (("60", 0.92), ("40", 0.88))
    ]
    shown = Page(comparison(folders))
    assert shown.figures() == {"front"}
    by_letter = dict(zip("AB", folders, strict=True))
    assert {one.bundle for one in shown.numbers} == {"A", "B"}
    for one in shown.numbers:
        value = stored(by_letter[one.bundle], one.place)
        assert float(one.value) == value
        assert one.text == WRITTEN[one.form](int(value) if one.form == "whole" else value)
    assert "60%" in shown.said("settings")
    assert "40%" in shown.said("settings")


def test_without_accuracy_there_is_no_front(made: Path) -> None:
    assert Page(comparison([made / "60", made / "40"])).figures() == set()


@pytest.mark.slow
def test_a_page_as_large_as_resnet_50_s_is_below_2_mb(bundle: Path, tmp_path: Path) -> None:
    """54 layers, 120 rows, 60 groups: `pytest -m slow tests/report/test_html.py`."""
    shutil.copytree(bundle, tmp_path / "large")
    manifest = json.loads((tmp_path / "large" / "manifest.json").read_text())
    evidence = json.loads((tmp_path / "large" / "evidence.json").read_text())
    header, *rows = (tmp_path / "large" / "latency.csv").read_text().splitlines()
    many = [row for at in range(10) for row in [f"layer{at}." + one for one in rows]]
    (tmp_path / "large" / "latency.csv").write_text("\n".join([header, *many]) + "\n")
    evidence["layers"] = [
        {**one, "layer": f"layer{at}.{one['layer']}"} for at in range(9) for one in evidence["layers"]
    ]
    curve = evidence["staircases"][0]
    steps = {"widths": list(range(1, 257)), "us": [float(one) for one in range(256)], "timed": [], "of": 256}
    evidence["staircases"] = [{**curve, **steps}] * 6
    group = {"width": 8, "of": 16, "modules": [f"layer{at}.conv" for at in range(12)]}
    manifest["result"]["plan"] = {f"layer{at}": group for at in range(60)}
    evidence["importance"] = {f"layer{at}": {"share": 0.01, "kept": 0.9} for at in range(60)}
    write_json(tmp_path / "large" / "evidence.json", evidence.pop("schema"), evidence)
    write_manifest(
        tmp_path / "large", {name: value for name, value in manifest.items() if name not in ("schema", "files")}
    )
    assert len(page(tmp_path / "large").encode()) < MOST_BYTES
