"""The main job from end to end, on a device whose latency is a formula: everything else is real."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import edgeprune
from edgeprune import api, cutting, decision, pipeline, prepare, shipping, tracing
from edgeprune.errors import BudgetError, InputError, TableError
from edgeprune.job import Job
from edgeprune.progress import SILENT
from edgeprune.training.demo import demo_model
from edgeprune.units import parse_latency
from tests.listening import Listening
from tests.simulated import SimulatedBench, Wide, measurement


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimulatedBench:
    return simulate(monkeypatch, tmp_path / "tables")


def simulate(monkeypatch: pytest.MonkeyPatch, tables: Path) -> SimulatedBench:
    bench = SimulatedBench()
    for module in (api, pipeline, tracing, shipping):
        monkeypatch.setattr(module, "open_bench", lambda *args, **options: bench)
    monkeypatch.setenv("EDGEPRUNE_TABLES", str(tables))
    return bench


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pipeline.Result]:
    """The embedded default, exported once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        simulate(patch, folder / "tables")
        for module in (cutting, prepare):
            patch.setattr(module, "CALIBRATION_IMAGES", 128)  # a quarter: most of an export's time is the refit on them
        asked = Job(model="demo", target="openvino", latency=parse_latency("60%"), epochs=1, out=folder / "out")
        return folder, pipeline.export(asked)


@pytest.fixture
def network(tmp_path: Path) -> str:
    """A network in a user's file: no weights, no data."""
    path = tmp_path / "network.py"
    path.write_text("from tests.simulated import Wide\n\n\ndef wide():\n    return Wide()\n")
    return f"{path}:wide"


def job(tmp_path: Path, network: str, **changes: Any) -> Job:
    asked: dict[str, Any] = {"latency": parse_latency("60%"), "out": tmp_path / "out", **changes}
    return Job(model=network, target="openvino", input_shape=(1, 3, 16, 16), **asked)


def left(folder: Path) -> list[str]:
    """What a run left in the test's folder."""
    return sorted(path.name for path in folder.iterdir() if path.name not in ("network.py", "__pycache__", "tables"))


def test_the_demo_becomes_a_bundle_within_its_budget(demo: tuple[Path, pipeline.Result]) -> None:
    folder, result = demo
    found = result.to_json()
    latency, accuracy = found["latency_ms"], found["accuracy"]

    assert (result.exit_code, found["status"]) == (0, "met")
    assert 0.93 * latency["budget"] <= latency["measured"] <= latency["budget"] == pytest.approx(0.6 * latency["dense"])
    assert latency["floor"] < latency["measured"]
    assert accuracy["engine"] >= accuracy["dense"] - 0.015
    assert found["numerics"]["slim_vs_masked"] <= 1e-5
    assert found["numerics"]["onnx_vs_torch"] <= 1e-4
    assert found["solver"]["gap"] <= 1e-3
    assert found["macs"]["pruned"] < found["macs"]["dense"]
    files = {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*") if path.is_file()}
    assert files >= {
        "model.onnx",
        "model.safetensors",
        "plan.json",
        "manifest.json",
        "latency.csv",
        "samples.npz",
        "verify.py",
        "verify.zip",
    }
    assert any(name.startswith("engine/") for name in files)
    assert left(folder) == ["out"]
    json.dumps(found, allow_nan=False)


def test_the_bundle_is_what_the_result_says(demo: tuple[Path, pipeline.Result]) -> None:
    folder, result = demo
    found = result.to_json()
    small = edgeprune.load(folder / "out", demo_model())
    proto = onnx.load(folder / "out" / "model.onnx")
    widths = {one.name: one.dims[0] for one in proto.graph.initializer if one.name.endswith(".weight")}
    for name, module in small.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            assert widths[f"{name}.weight"] == module.out_channels
    for name, group in found["plan"].items():
        assert small.get_submodule(name).weight.shape[0] == group["width"]
    rows = list(csv.DictReader((folder / "out" / "latency.csv").open()))
    predicted_ms = sum(float(row["predicted_us"]) for row in rows) / 1000
    assert predicted_ms == pytest.approx(found["latency_ms"]["predicted"], rel=0.05)
    measured_ms = sum(float(row["measured_us"] or 0) for row in rows) / 1000
    assert measured_ms == pytest.approx(found["latency_ms"]["measured"], rel=1e-3)  # rounded to 1 ns a row
    assert {row["source"] for row in rows} <= {"measured", "interpolated", "assumed", ""}


def test_verify_finds_the_same_again(demo: tuple[Path, pipeline.Result]) -> None:
    folder, result = demo
    found = result.to_json()
    again = pipeline.verify(folder / "out").to_json()
    assert again["status"] == "met"
    assert again["latency_ms"]["measured"] == pytest.approx(found["latency_ms"]["measured"], rel=1e-12)
    assert again["accuracy"]["engine"] == found["accuracy"]["engine"]


def test_a_miss_is_planned_again_and_said(tmp_path: Path, network: str, device: SimulatedBench) -> None:
    ratios = iter([1.0, 1.0, 1.2, 1.0])  # the first is the table's networks side by side
    usual = device.measure

    def measure(models: Any, rule: Any = None, reference: Any = None) -> Any:
        device.slowdown = next(ratios, 1.0)
        return usual(models, rule)

    device.measure = measure  # type: ignore[method-assign]
    progress = Listening()
    result = pipeline.export(job(tmp_path, network), progress)
    assert result.exit_code == 0
    assert any("planning again for 97%" in line for line in progress.said)


def test_a_miss_that_no_tighter_plan_can_mend_is_shipped_as_a_miss(
    tmp_path: Path, network: str, device: SimulatedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, decide = cutting.ship, pipeline.decide
    aims: list[float] = []

    def slow(*arguments: Any) -> Any:
        shipped = usual(*arguments)
        return replace(shipped, measured=measurement(shipped.measured.median_ms * 1.2))

    def once(ready: Any, aim_ms: float, progress: Any, rounds: int) -> Any:
        aims.append(aim_ms)
        if len(aims) > 1:
            raise BudgetError("under the floor", remedy="")
        return decide(ready, aim_ms, progress, rounds)

    monkeypatch.setattr(cutting, "ship", slow)
    monkeypatch.setattr(pipeline, "decide", once)
    result = pipeline.export(job(tmp_path, network))
    assert (result.exit_code, result.content["status"]) == (5, "missed")
    assert aims[1] == pytest.approx(0.97 * aims[0])
    assert left(tmp_path) == ["out"]


def test_a_dry_run_writes_nothing(tmp_path: Path, network: str) -> None:
    found = pipeline.export(job(tmp_path, network, dry_run=True)).to_json()
    assert found["status"] == "planned"
    assert found["latency_ms"]["predicted"] <= found["latency_ms"]["budget"]
    assert left(tmp_path) == []


def test_a_budget_under_the_floor_leaves_nothing_behind(tmp_path: Path, network: str) -> None:
    with pytest.raises(BudgetError, match="the floor is made up of"):
        pipeline.export(job(tmp_path, network, latency=parse_latency("1%")))
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("module", "step"), [(pipeline, "_baseline"), (pipeline, "decide"), (cutting, "_recovered"), (cutting, "ship")]
)
def test_resume_goes_on_where_a_kill_stopped_it(
    tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    usual = getattr(module, step)
    with monkeypatch.context() as broken:
        broken.setattr(module, step, lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pipeline.export(job(tmp_path, network))
    assert not (tmp_path / "out").exists()
    assert getattr(module, step) is usual
    result = pipeline.export(job(tmp_path, network, resume=True))
    assert result.exit_code == 0
    assert left(tmp_path) == ["out"]


def test_a_ladder_of_plans(tmp_path: Path, network: str) -> None:
    budgets = [parse_latency(text) for text in ("80%", "50%", "1%")]
    result = pipeline.plan(job(tmp_path, network), budgets=budgets)
    plans = result.to_json()["plans"]
    assert result.exit_code == 0
    assert plans[0]["value"] > plans[1]["value"]
    assert plans[0]["macs"]["pruned"] > plans[1]["macs"]["pruned"]
    for plan in plans[:2]:
        assert plan["band"][0] <= plan["predicted"] <= plan["band"][1]
        assert plan["predicted"] <= plan["budget"] * 1.001
        assert 0 < plan["kept"] < 1
        assert plan["solver"]["binding"] == ["--latency"]
    assert plans[0]["asked"] == "80%"
    assert plans[2]["predicted"] is None
    assert "is under the floor: the fastest plan takes" in plans[2]["reason"]
    floor = result.to_json()["floor_ms"]
    parts = floor["narrow"] + floor["fixed"] + floor["runtime"]
    assert parts == pytest.approx(result.to_json()["latency_ms"]["floor"])


def test_a_filled_table_is_planned_from_without_a_measurement(
    tmp_path: Path, network: str, device: SimulatedBench
) -> None:
    pipeline.profile(job(tmp_path, network))
    built = device.built

    def measure(*arguments: Any) -> Any:
        raise AssertionError("the table has it")

    device.measure = measure  # type: ignore[method-assign]
    pipeline.plan(job(tmp_path, network), budgets=[parse_latency("80%")])
    assert device.built == built


def test_a_ladder_out_of_reach_is_explained_for_its_widest_budget(tmp_path: Path, network: str) -> None:
    with pytest.raises(BudgetError, match=r"the floor is made up of .* at their narrowest \(.*in the runtime") as error:
        pipeline.plan(job(tmp_path, network), budgets=[parse_latency(text) for text in ("0.5%", "1%", "0.2%")])
    found = error.value
    floor = float(re.search(r"takes ([\d.]+) us", found.message)[1])  # type: ignore[index]
    asked = float(re.search(r"budget of ([\d.]+) us", found.message)[1])  # type: ignore[index]
    profiled = pipeline.profile(job(tmp_path, network)).to_json()["latency_ms"]["dense"]
    assert asked == pytest.approx(0.01 * profiled * 1000, rel=1e-2)
    least = float(re.search(r"from --latency ([\d.]+)ms on", found.remedy)[1])  # type: ignore[index]
    assert floor - 0.5 <= least * 1000 <= floor * 1.01 + 0.5
    assert all(
        way in found.remedy for way in ("allow more", "--precision bf16 or fp16", "--threads", "let more be removed")
    )
    pipeline.plan(job(tmp_path, network), budgets=[parse_latency(f"{least}ms")])


def test_limits_hold_and_say_that_they_bind(tmp_path: Path, network: str) -> None:
    budgets = [parse_latency("90%")]
    free = pipeline.plan(job(tmp_path, network), budgets=budgets).to_json()["plans"][0]
    most = free["params"]["dense"] // 3
    limited = {"max_params": most, "max_size": 4 * (most + 50)}
    tight = pipeline.plan(job(tmp_path, network, **limited), budgets=budgets).to_json()
    plan = tight["plans"][0]
    assert tight["limits"] == {"--max-params": most, "--max-size": most + 50}
    assert plan["params"]["pruned"] <= most < free["params"]["pruned"]
    assert plan["solver"]["binding"] == ["--max-params"]
    with pytest.raises(BudgetError, match="--max-size is under what the smallest network needs: it allows 25 "):
        pipeline.plan(job(tmp_path, network, max_size=100), budgets=budgets)


def test_a_width_is_explained(tmp_path: Path, network: str) -> None:
    budgets = [parse_latency(text) for text in ("60%", "1%")]
    plan, none = pipeline.plan(job(tmp_path, network), SILENT, budgets, "stem.0").to_json()["plans"]
    (group,) = plan["explain"]["groups"]
    assert "explain" not in none
    assert (group["group"], group["of"]) == ("stem.0", 32)
    assert group["width"] == plan["plan"]["stem.0"]["width"]
    points = {point["width"]: point for point in group["curve"]}
    assert points[group["width"]]["ms"] == pytest.approx(plan["predicted"])
    assert points[32]["saved_ms"] == 0
    assert points[32]["kept"] == 1
    assert group["runner_up"]["width"] != group["width"]
    assert group["runner_up"]["lost"] >= -1e-3 * plan["value"]
    assert group["runner_up"]["ms"] <= plan["budget"]
    assert group["channels"]["least_kept"] >= group["channels"]["most_removed"]


def test_a_classifier_is_explained_by_what_it_reads(tmp_path: Path, network: str) -> None:
    explained = pipeline.plan(job(tmp_path, network), SILENT, [parse_latency("60%")], "fc").to_json()["plans"][0]
    assert explained["explain"]["locked"]
    assert [group["group"] for group in explained["explain"]["groups"]] == ["stem.0"]


def test_an_unknown_module_is_refused_before_anything_is_measured(
    tmp_path: Path, network: str, device: SimulatedBench
) -> None:
    with pytest.raises(InputError, match=r"named 'one\.00' \(did you mean 'one\.0'"):
        pipeline.plan(job(tmp_path, network), SILENT, [parse_latency("60%")], "one.00")
    assert device.built == 0


def test_another_strategy_makes_a_bundle_on_the_same_budget(tmp_path: Path, network: str) -> None:
    found = pipeline.export(job(tmp_path, network, strategy="uniform", max_size=40000)).to_json()
    assert found["status"] == "met"
    assert found["latency_ms"]["measured"] <= found["latency_ms"]["budget"]
    assert found["params"]["pruned"] * 4 <= 40000
    assert found["solver"]["gap"] is None
    shares = [group["width"] / group["of"] for group in found["plan"].values()]
    assert max(shares) - min(shares) <= 1 / 24


def test_profile_lists_every_layer(tmp_path: Path, network: str) -> None:
    found = pipeline.profile(job(tmp_path, network)).to_json()
    assert {"stem.0", "one.0", "one.3", "two.0", "two.3", "fc"} <= {layer["name"] for layer in found["layers"]}
    layers_ms = sum(layer["ms"] for layer in found["layers"])
    rest = (found["inserted"] + found["unexplained"]) * found["latency_ms"]["dense"]
    assert layers_ms + rest == pytest.approx(found["latency_ms"]["dense"], rel=0.05)


def test_profile_explains_and_draws_a_layer(tmp_path: Path, network: str) -> None:
    found = pipeline.profile(job(tmp_path, network), explain="one.0").to_json()
    times = {layer["name"]: layer["ms"] for layer in found["layers"]}
    assert found["explain"]["us"][-1] == pytest.approx(1000 * times["one.0"], abs=1e-3)  # dense, as in the list
    assert [Path(one).name for one in found["pictures"]] == ["one.0.svg", "predicted.svg"]
    for one in found["pictures"]:
        assert Path(one).is_relative_to(found["table"])
        assert ElementTree.parse(one).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    folded = pipeline.profile(job(tmp_path, network), explain="one.1").to_json()
    assert folded["explain"]["layer"] == "one.0", "a BatchNorm is part of the layer that it is folded into"
    with pytest.raises(InputError, match="did you mean 'one"):
        pipeline.profile(job(tmp_path, network), explain="one.00")


def test_the_stored_table_is_checked_before_it_is_used(tmp_path: Path, network: str, device: SimulatedBench) -> None:
    missing = pipeline.check(job(tmp_path, network))
    assert (missing.exit_code, missing.content["status"], missing.content["table"]) == (8, "missing", None)
    first = pipeline.profile(job(tmp_path, network)).content
    assert first["table_check"]["status"] == "missing"
    assert first["repetition"].startswith("Median over")
    assert pipeline.check(job(tmp_path, network)).exit_code == 0
    device.slowdown = 1.4
    slower = pipeline.profile(job(tmp_path, network)).content
    assert slower["table_check"]["sentence"] == "this machine is 1.4x slower"
    device.slowdown = 3.0
    with pytest.raises(TableError, match="this machine is 3x slower") as caught:
        pipeline.profile(job(tmp_path, network))
    assert caught.value.exit_code == 8
    device.slowdown, device.version = 1.0, "2"
    assert pipeline.check(job(tmp_path, network)).exit_code == 8
    assert pipeline.profile(job(tmp_path, network)).content["table_check"]["status"] == "stale"
    shared = pipeline.share(tmp_path / "shared").content
    assert [one["networks"] for one in shared["tables"]] == [15, 15]
    again = pipeline.share(tmp_path / "shared", take_in=True).content
    assert [one["new"] for one in again["tables"]] == [0, 0]
    shutil.rmtree(tmp_path / "shared")


def test_from_python(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Wide().eval(), torch.randn(1, 3, 16, 16)
    graph = edgeprune.trace(model, x)
    table = edgeprune.profile(model, x, target="openvino")
    scores = edgeprune.scores(model, graph, "l2")
    plan = edgeprune.plan(graph, table, scores, latency_ms=0.7 * table.dense.engine_ms)
    small = edgeprune.slim(model, plan)
    assert sum(one.numel() for one in small.parameters()) < sum(one.numel() for one in model.parameters())
    result = edgeprune.export(model, x, target="openvino", latency="60%", out=tmp_path / "out")
    assert result.exit_code == 0
    assert result.content["accuracy"] == {"dense": None, "pruned": None, "engine": None}
    back = edgeprune.load(tmp_path / "out", Wide()).eval()
    with torch.no_grad(), np.load(tmp_path / "out" / "samples.npz") as samples:
        np.testing.assert_allclose(
            back(torch.from_numpy(samples["input_000"])), samples["output_000"], rtol=1e-3, atol=1e-5
        )


def test_what_is_locked_after_the_table_was_measured_stays_whole() -> None:
    torch.manual_seed(0)
    model, x = Wide().eval(), torch.randn(1, 3, 16, 16)
    table = edgeprune.profile(model, x, target="openvino")
    name = next(iter(edgeprune.trace(model, x).groups))
    graph = edgeprune.trace(model, x, lock=name)
    plan = edgeprune.plan(graph, table, edgeprune.scores(model, graph, "l2"), latency_ms=0.8 * table.dense.engine_ms)
    assert name not in plan.widths
    assert plan.params < edgeprune.WidthPlan.dense(graph).params
    whole = {**plan.widths, name: table.dense.widths[name]}
    assert table.predict(whole).ms <= 0.8 * table.dense.engine_ms


def test_python_wants_one_sample() -> None:
    with pytest.raises(InputError, match="not one sample"):
        edgeprune.export(Wide(), torch.zeros(2, 3, 8, 8), target="openvino", latency="60%")


def test_python_s_options_are_checked_before_anything_is_measured(
    tmp_path: Path, device: SimulatedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "manifest.json").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "Wide-openvino").mkdir(parents=True)
    (tmp_path / "runs" / "Wide-openvino" / "manifest.json").touch()
    for wrong, said in (
        ({"rounds": 0}, "--rounds 0"),
        ({"out": tmp_path / "there"}, "exists already; "),
        ({}, "exists already; "),
        ({"epoch": 3, "out": tmp_path / "new"}, r"no argument 'epoch' \(did you mean 'epochs'"),
        ({"max_size": "25", "out": tmp_path / "new"}, "25"),
        ({"device": "ssh:/board", "out": tmp_path / "new"}, "ssh:/board"),
    ):
        with pytest.raises(InputError, match=said):
            edgeprune.export(Wide(), torch.zeros(1, 3, 16, 16), target="openvino", latency="60%", **wrong)
    assert device.built == 0


def test_a_bundle_is_cut_further(tmp_path: Path, network: str) -> None:
    first = job(tmp_path, network, out=tmp_path / "first")
    pipeline.export(first)
    with pytest.raises(InputError, match=r"is built by .*network.py:wide, and code is executed only where it is named"):
        pipeline.export(job(tmp_path, str(tmp_path / "first")))
    again = pipeline.export(job(tmp_path, network, weights=tmp_path / "first", out=tmp_path / "second"))
    assert again.exit_code == 0
    macs = json.loads((tmp_path / "first/manifest.json").read_text())["result"]["macs"]
    assert again.content["macs"]["dense"] == macs["pruned"]
    # What the second bundle cuts, it cuts from the network that the code builds.
    small = edgeprune.load(tmp_path / "second", Wide().eval()).eval()
    session = onnxruntime.InferenceSession((tmp_path / "second/model.onnx").read_bytes())
    images = torch.randn(1, 3, 16, 16)
    (expected,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert torch.allclose(small(images), torch.from_numpy(expected), atol=1e-4)


def test_a_bundle_of_a_known_network_needs_no_code(demo: tuple[Path, pipeline.Result]) -> None:
    folder, result = demo
    found = pipeline.plan(
        Job(model=str(folder / "out"), target="openvino", dry_run=True), budgets=[parse_latency("80%")]
    ).content
    assert found["plans"][0]["macs"]["dense"] == result.content["macs"]["pruned"]


def test_a_bundle_has_its_own_weights(demo: tuple[Path, pipeline.Result]) -> None:
    folder, _ = demo
    asked = Job(model=str(folder / "out"), target="openvino", weights=folder / "w.pt", latency=parse_latency("80%"))
    with pytest.raises(InputError, match="has weights of its own"):
        pipeline.export(asked)


def test_the_same_seed_and_table_give_the_same_plan(tmp_path: Path, network: str, device: SimulatedBench) -> None:
    pipeline.export(job(tmp_path, network, out=tmp_path / "one"))
    built = device.built
    pipeline.export(job(tmp_path, network, out=tmp_path / "other"))
    plans = [json.loads((tmp_path / name / "plan.json").read_text()) for name in ("one", "other")]
    assert plans[0] == plans[1]
    assert device.built == built + 1, "only the layers of the shipped engine are timed again"
    pipeline.export(job(tmp_path, network, out=tmp_path / "third", seed=1))
    assert device.built > built + 2, "another seed is another request"


@pytest.mark.parametrize(("asked", "narrower", "epochs"), [(None, True, 3), (None, False, 0), (2, False, 2)])
def test_a_network_that_fits_as_it_is_is_trained_only_where_that_was_asked_for(
    asked: int | None, narrower: bool, epochs: int
) -> None:
    ready: Any = SimpleNamespace(subject=SimpleNamespace(data=object()), job=SimpleNamespace(epochs=asked))
    assert cutting.epochs_of(ready, narrower=narrower) == epochs


def test_a_network_that_fits_as_it_is_is_decided_about_once(
    tmp_path: Path, network: str, device: SimulatedBench
) -> None:
    dense_ms = pipeline.export(job(tmp_path, network, out=tmp_path / "cut")).to_json()["latency_ms"]["dense"]
    ample = parse_latency(f"{2 * dense_ms:.6g}ms")
    pipeline.export(job(tmp_path, network, latency=ample, out=tmp_path / "first"))
    built = device.built
    found = pipeline.export(job(tmp_path, network, latency=ample, out=tmp_path / "second")).to_json()
    assert device.built == built + 1, "only the layers of the shipped engine are timed again"
    assert all(one["width"] == one["of"] for one in found["plan"].values())


def test_a_budget_in_milliseconds_gives_the_same_plan_as_long_as_that_fits(
    tmp_path: Path, network: str, device: SimulatedBench
) -> None:
    dense_ms = pipeline.export(job(tmp_path, network, out=tmp_path / "dense")).to_json()["latency_ms"]["dense"]
    asked = parse_latency(f"{0.5 * dense_ms:.6g}ms")
    first = pipeline.export(job(tmp_path, network, latency=asked, out=tmp_path / "first")).to_json()
    used = first["latency_ms"]["measured"] / first["latency_ms"]["budget"]
    assert 0.93 < used <= 1
    # The device is faster by so much that the plan uses 94 % of the budget, then 90 %, then too much.
    plans = []
    for share in (0.94, 0.9, 1.1):
        device.slowdown = share / used
        found = pipeline.export(job(tmp_path, network, latency=asked, out=tmp_path / f"{share}")).to_json()
        plans.append(found["plan"])
        assert found["latency_ms"]["measured"] <= found["latency_ms"]["budget"]
    assert plans[0] == first["plan"]
    assert plans[1] != first["plan"] != plans[2]


def test_another_normalisation_is_another_request(tmp_path: Path, network: str) -> None:
    with prepare.prepare(job(tmp_path, network), SILENT) as ready:
        before = decision._reasons(ready)
        ready.subject = replace(ready.subject, mean=(0.5,), std=(0.25,))
        after = decision._reasons(ready)
    assert {name for name in after if after[name] != before[name]} == {"normalisation"}
