"""A bundle, checked again on this machine or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeprune.artifacts.contents import read_samples
from edgeprune.artifacts.samples import val_arrays
from edgeprune.errors import EdgePruneError
from edgeprune.latency.bench import Bench
from edgeprune.latency.rule import FINAL
from edgeprune.latency.samples import Measurement
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.progress import Progress
from edgeprune.training.data import Data, load_data
from edgeprune.units import parse_shape
from edgeprune.verification.accuracy import engine_accuracy
from edgeprune.verification.numerics import largest_difference
from edgeprune.verification.onboard import verdict_of
from edgeprune.verification.verdict import Verdict, judge


@dataclass(frozen=True)
class Recheck:
    """What a second look at a bundle found.

    Attributes:
        measured: latency of the engine, now.
        fingerprint: of the device it was measured on.
        numerics: `engine_vs_torch` on the stored samples.
        accuracy: of the engine, None where the data are not there.
        verdict: met or missed, and the exit code.
        report: what else is to be known of the engine and its measurement.
    """

    measured: Measurement
    fingerprint: dict[str, str]
    numerics: dict[str, float | None]
    accuracy: float | None
    verdict: Verdict
    report: Mapping[str, str]


def recheck(folder: Path, manifest: Mapping[str, Any], bench: Bench, progress: Progress) -> Recheck:
    """Run a bundle's model on the bench: stored samples, validation images where they are, latency."""
    before, job = manifest["result"], manifest["job"]
    model = (folder / "model.onnx").read_bytes()
    inputs, expected = read_samples(folder / "samples.npz")
    with progress.step("verifying numerics and latency"):
        numerics: dict[str, float | None] = {
            "engine_vs_torch": largest_difference(bench.outputs(model, inputs), expected)
        }
        measured = measured_when_quiet(bench, {"engine": model}, FINAL, progress=progress)["engine"]
    data = data_of(manifest, progress)
    accuracy = (
        engine_accuracy(bench, model, val_arrays(data), images=data.val_size, progress=progress) if data else None
    )
    verdict = judge(
        budget_ms=before["latency_ms"]["budget"],
        measured_ms=measured.median_ms,
        trusted=measured.trusted,
        distrust=measured.reason,
        numerics=numerics,
        precision=bench.settings.precision,
        dense_accuracy=before["accuracy"]["dense"],
        engine_accuracy=accuracy,
        float_accuracy=before["accuracy"]["pruned"],
        max_drop=None if job["max_drop"] is None else job["max_drop"] / 100,
    )
    return Recheck(measured, dict(bench.fingerprint().to_json()), numerics, accuracy, verdict, {})


def recheck_of(checked: Mapping[str, Any], manifest: Mapping[str, Any]) -> Recheck:
    """Return what a board found, by itself, as if it had been found here; it has no data, so no accuracy."""
    before = manifest["result"]["fingerprint"]
    verdict = verdict_of(checked, manifest)
    other = sorted(name for name, value in checked["fingerprint"].items() if before.get(name) != value)
    if other:
        changes = "; ".join(
            f"{name}: {before.get(name, 'unknown')} -> {checked['fingerprint'][name]}" for name in other
        )
        verdict = replace(verdict, reasons=(*verdict.reasons, f"the device is not that of the export: {changes}"))
    measured = Measurement.from_json(checked["measurement"])
    return Recheck(measured, checked["fingerprint"], checked["numerics"], None, verdict, checked["report"])


def data_of(manifest: Mapping[str, Any], progress: Progress) -> Data | None:
    """Return the data that the bundle was made with, if they are still where they were, and still the same."""
    job, source = manifest["job"], manifest["source"]
    named = source.get("data") or job["data"]
    if named is None:
        return None
    try:
        data = load_data(
            named,
            mean=source["mean"],
            std=source["std"],
            input_shape=parse_shape(source["input"]),
            seed=job["seed"],
        )
    except EdgePruneError as error:
        progress.say(f"accuracy is not checked: {error.message}")
        return None
    if data.digest != job["data_digest"]:
        progress.say(f"accuracy is not checked: {named} holds other images than those that the bundle was made with")
        return None
    return data
