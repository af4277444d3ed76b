from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgeprune.errors import InputError, MissingError
from edgeprune.latency.bench import Bench, LayerTimes, examine, open_bench
from edgeprune.latency.rule import Rule
from edgeprune.runtimes.base import LayerTime
from edgeprune.targets.devices import open_device
from tests.onnx_models import residual, scale_and_shift
from tests.simulated import measurement

QUICK = Rule(warmup_s=0.01, steady_tolerance=0.5, samples_min=2, round_s=0.01, rounds=2, retries=1)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with open_bench(request.param, threads=1) as opened:
        yield opened


def test_the_fingerprint_is_stable_and_complete(bench: Bench) -> None:
    first, second = bench.fingerprint(), bench.fingerprint()
    assert first == second
    assert first.digest == second.digest
    assert first["runtime"] == bench.target.runtime
    assert {"runtime_version", "precision", "threads", "streams", "cpu", "cores", "arch", "os", "affinity"} <= set(
        first
    )


def test_measures_models_by_name(bench: Bench) -> None:
    found = bench.measure({"small": residual(8, 8), "large": residual(48, 24)}, QUICK)
    assert list(found) == ["small", "large"]
    assert found["small"].median_ms < found["large"].median_ms


def test_times_layers_of_every_model(bench: Bench) -> None:
    found = bench.layers({"a": residual(), "b": residual(8)}, QUICK, layers_s=0.1)
    for times in found.values():
        assert "layer1.0.conv2" in {node for row in times.rows for node in row.nodes}
        assert times.engine.median_ms > 0


def test_layers_are_shares_of_the_engine() -> None:
    """The clocks counted 40 us where the undisturbed engine takes 20 us: each layer is half of what was counted."""
    times = LayerTimes((LayerTime(("a",), "Convolution", 10.0), LayerTime((), "Reorder", 30.0)), measurement(0.02))
    assert times.factor(0.02) == 0.5
    assert [(row.nodes, row.us) for row in times.shares_of(0.02)] == [(("a",), 5.0), ((), 15.0)]


def test_what_others_are_timed_beside_is_quantized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(Bench, "_as_int8", lambda self, model, images: made.append(model) or model)
    dense = residual(32)
    with open_bench("openvino", precision="int8") as bench:
        for width in range(1, 21):
            assert bench.typed(dense) == dense
            bench.typed(residual(width))
    assert made.count(dense) == 1
    assert len(made) == 21


def test_runs_a_model_over_rows(bench: Bench) -> None:
    left, right = np.float32([[1, 2], [3, 4]]), np.float32([[10, 20], [30, 40]])
    double, total = bench.outputs(scale_and_shift(), [left, right])
    assert double.tolist() == [[2, 4], [6, 8]]
    assert total.tolist() == [[11, 22], [33, 44]]


@pytest.mark.parametrize("rows", [(1,), (1, 2)])
def test_inputs_must_fit_the_model(bench: Bench, rows: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="the model has inputs left, right"):
        bench.outputs(scale_and_shift(), [np.zeros((count, 2), np.float32) for count in rows])


def test_builds_the_engine(bench: Bench) -> None:
    record = bench.target.record
    assert record
    files = bench.build(residual())
    assert {name[name.index(".") :] for name in files} == set(record.suffixes)
    assert all(files.values())


def test_an_error_on_the_device_keeps_its_class_and_leaves_the_bench_usable(bench: Bench) -> None:
    with pytest.raises(InputError):
        bench.measure({"broken": b"no model"}, QUICK)
    assert bench.fingerprint()


def test_the_machine_can_be_examined(bench: Bench) -> None:
    hardware, findings = examine(bench.device)
    assert hardware.items() <= dict(bench.fingerprint()).items()
    assert all(finding.what for finding in findings)


def test_an_open_device_serves_several_targets() -> None:
    with open_device("local") as device:
        found = [open_bench(name, device=device).fingerprint()["runtime"] for name in ("openvino", "onnxruntime")]
    assert found == ["openvino", "onnxruntime"]


@pytest.mark.parametrize(
    ("target", "options", "error", "words"),
    [
        ("openvno", {}, InputError, "did you mean 'openvino'"),
        ("openvino", {"precision": "int3"}, InputError, "int3"),
        ("openvino", {"threads": -1}, InputError, "-1 threads"),
        ("openvino", {"device": "lcoal"}, InputError, "lcoal"),
        ("jetson", {}, MissingError, "NVIDIA Jetson"),
        ("nvidia", {}, MissingError, "NVIDIA GPU"),
    ],
)
def test_refuses_by_name_before_anything_starts(
    target: str, options: dict[str, object], error: type[InputError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        open_bench(target, **options)
    assert caught.value.remedy


def test_a_jetson_that_is_not_reachable_names_the_two_commands() -> None:
    with pytest.raises(MissingError) as caught:
        open_bench("jetson")
    assert "edgeprune export" in caught.value.remedy
    assert "edgeprune doctor" in caught.value.remedy
