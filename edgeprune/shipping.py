"""From the compact network to the bundle's files, and the numbers that say whether they are right."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.artifacts import bundle as bundles
from edgeprune.artifacts.contents import write_samples
from edgeprune.artifacts.onnx import export_onnx
from edgeprune.artifacts.samples import sample_inputs, torch_outputs, val_arrays
from edgeprune.artifacts.subject import Network
from edgeprune.artifacts.verifier import write_verifier
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.bench import Reference, open_bench
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.rule import FINAL
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.prepare import Prepared
from edgeprune.progress import Progress
from edgeprune.pruning.fuse import fuse
from edgeprune.records import write_bytes
from edgeprune.runtimes.base import LayerTime
from edgeprune.verification.accuracy import engine_accuracy
from edgeprune.verification.numerics import largest_difference

QUANTIZATION_IMAGES = 300
"""Training images that the scales of an int8 engine come from, at most."""

_PACKAGES = ("edgeprune", "torch", "onnx", "onnxruntime", "onnxsim", "openvino", "numpy", "scipy")


@dataclass(frozen=True)
class Shipped:
    """What was measured on the shipped files.

    Attributes:
        measured: latency of the engine; None where the device can't be reached, and nothing there was measured.
        numerics: relative differences by name.
        accuracy: of the engine, None without data.
        layers_factor: by which the times of the layers were multiplied, as they were counted, to add up to `measured`.
        report: what else is to be known of the engine and its measurement, such as how often it was built.
        quantization: what an int8 engine was made by and calibrated on; None for others.
    """

    measured: Measurement | None
    numerics: dict[str, float | None]
    accuracy: float | None
    layers_factor: float
    report: dict[str, str]
    quantization: dict[str, Any] | None = None


def ship(
    ready: Prepared,
    plan: WidthPlan,
    small: Network,
    folder: Path,
    reference: Reference | None,
    slim_difference: float | None,
    progress: Progress,
) -> Shipped:
    """Write the bundle's files into `folder`, all but the manifest, and verify them on the device.

    Args:
        ready: the dense network on its target.
        plan: how it was cut.
        small: the compact network.
        folder: emptied first.
        reference: the network of the plan with the latency that decided for it: the engine is timed beside it. None
            where the device can't be reached: then there is no engine, and nothing is measured.
        slim_difference: of the compact network to its masked twin; None where they differ by nature.
        progress: where to show it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    bundles.save(folder, small, plan, ready.subject.cuts, ready.subject.structure)
    images = quantization_images(ready)
    with progress.step("exporting"):
        exported = export_onnx(fuse(small, ready.graph.foldable), ready.graph.example_inputs).SerializeToString()
        model = ready.bench.typed(exported, images)
        write_bytes(folder / "model.onnx", model)
        write_verifier(folder)
    inputs = sample_inputs(ready.graph.example_inputs, ready.subject.data, ready.job.seed)
    expected = torch_outputs(small, inputs)
    write_samples(folder / "samples.npz", inputs, expected)
    numerics: dict[str, float | None] = {
        "slim_vs_masked": slim_difference,
        "onnx_vs_torch": largest_difference(reference_outputs(exported, inputs), expected),
        "engine_vs_torch": None,
    }
    if reference is None:
        bundles.write_latency_csv(folder / "latency.csv", _layer_rows(ready, plan, None))
        return Shipped(None, numerics, None, 1.0, {}, _quantization(ready, images))
    with progress.step("building the engine"):
        for name, content in ready.bench.build(model).items():
            write_bytes(folder / "engine" / name, content)
    with progress.step("verifying numerics and latency"):
        numerics["engine_vs_torch"] = largest_difference(ready.bench.outputs(model, inputs), expected)
        measured = measured_when_quiet(ready.bench, {"engine": model}, FINAL, reference, progress)["engine"]
        layers = ready.bench.layers({"engine": model})["engine"]
    bundles.write_latency_csv(folder / "latency.csv", _layer_rows(ready, plan, layers.shares_of(measured.median_ms)))
    return Shipped(
        measured,
        numerics,
        _engine_accuracy(ready, model, progress),
        layers.factor(measured.median_ms),
        layers.report,
        _quantization(ready, images),
    )


def _engine_accuracy(ready: Prepared, model: bytes, progress: Progress) -> float | None:
    """Return the engine's top-1 in [0, 1] on the validation images; None where there are none."""
    data = ready.subject.data
    if data is None:
        return None
    return engine_accuracy(ready.bench, model, val_arrays(data), images=data.val_size, progress=progress)


def quantization_images(ready: Prepared) -> np.ndarray | None:
    """Return training images, drawn by the job's seed, for an int8 engine's scales; None where nothing is quantized."""
    data = ready.subject.data
    if not ready.bench.quantizer or data is None:
        return None
    return np.concatenate([x.numpy() for x, _ in data.calibration(QUANTIZATION_IMAGES, ready.job.seed)])


def _quantization(ready: Prepared, images: np.ndarray | None) -> dict[str, Any] | None:
    if images is None:
        return None
    return {"by": ready.bench.quantizer, "images": len(images), "of": "training set", "seed": ready.job.seed}


def reference_outputs(model: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Return what ONNX Runtime computes in float32 on this machine."""
    with open_bench("onnxruntime", precision="fp32", threads=1) as reference:
        return reference.outputs(model, inputs)


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    return {name: version(name) for name in _PACKAGES}


def _layer_rows(ready: Prepared, plan: WidthPlan, times: Sequence[LayerTime] | None) -> list[dict[str, Any]]:
    """Return a row a layer of the dense engine: dense and predicted time, and the shipped engine's measured time.

    The table's times are as they are where the dense network takes what it takes now.

    Args:
        ready: the dense network on its target.
        plan: how it was cut.
        times: of the shipped engine's primitives, as shares of its median; None where they were not measured.
    """
    measured: dict[str | None, float] = {}
    for time in times or ():
        found = next((row.name for row in ready.table.rows if not set(row.nodes).isdisjoint(time.serves)), None)
        measured[found] = measured.get(found, 0.0) + time.us
    dense = {row.name: us * ready.drift for row, us, _ in ready.table.layers(WidthPlan.dense(ready.graph).widths)}
    rows = []
    for row, predicted, source in ready.table.layers(plan.widths):
        cin, cout = (axis.width(plan.widths) for axis in row.axes)
        rows.append(
            {
                "layer": row.name,
                "op": row.op,
                "cin": cin,
                "cout": cout,
                "dense_us": round(dense[row.name], 3),
                "predicted_us": round(predicted * ready.drift, 3),
                "measured_us": round(measured[row.name], 3) if row.name in measured else "",
                "source": source,
            }
        )
    rest = {
        "layer": "(inserted by the runtime, unattributed)",
        "predicted_us": round(ready.table.fixed_us * ready.drift, 3),
        "measured_us": "" if times is None else round(measured.get(None, 0.0), 3),
    }
    return [*rows, dict.fromkeys(rows[0], "") | rest]
