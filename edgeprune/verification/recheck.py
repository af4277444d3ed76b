"""A bundle, checked again on this machine or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeprune.artifacts.contents import read_samples
from edgeprune.artifacts.samples import val_arrays
from edgeprune.errors import EdgePruneError, InputError, MissingError
from edgeprune.latency.bench import Bench
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.rule import FINAL
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.progress import Progress
from edgeprune.training.data import Data, load_data
from edgeprune.units import parse_shape
from edgeprune.usercode import is_function_name
from edgeprune.verification.accuracy import engine_accuracy
from edgeprune.verification.numerics import largest_difference
from edgeprune.verification.verdict import Verdict, judge

_UPDATED = ("runtime_version", "runtime_requirements", "quantizer", "driver", "cuda", "l4t")
"""Of a fingerprint, what updates change: the device is the same one, and whether it still keeps the budget is asked."""

_NAME_THEM = "say with --data where they are now"


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


def recheck(
    folder: Path,
    manifest: Mapping[str, Any],
    bench: Bench,
    progress: Progress,
    *,
    data: str | None = None,
    allow_unverified: bool = False,
) -> Recheck:
    """Run a bundle's model on the bench: stored samples, validation images where they are, latency.

    The engine is built from `model.onnx`, as it was for the bundle.

    Args:
        folder: of the bundle.
        manifest: of the bundle.
        bench: where to check it.
        progress: where to show it.
        data: where the images are now that the bundle was made with; None looks where they were.
        allow_unverified: what can't be verified is a success.

    Raises:
        EdgePruneError: `data` can't be read, or are not those that the bundle was made with.
    """
    model = (folder / "model.onnx").read_bytes()
    inputs, expected = read_samples(folder / "samples.npz")
    images, unjudged = data_of(manifest, data)
    with progress.step("verifying numerics and latency"):
        numerics: dict[str, float | None] = {
            "engine_vs_torch": largest_difference(bench.outputs(model, inputs), expected)
        }
        measured = measured_when_quiet(bench, {"engine": model}, FINAL, progress=progress)["engine"]
    accuracy = None
    if images is not None:
        accuracy = engine_accuracy(bench, model, val_arrays(images), images=images.val_size, progress=progress)
    fingerprint = dict(bench.fingerprint().to_json())
    verdict = _judged(
        manifest, measured, numerics, fingerprint, accuracy, unjudged, allow_unverified, device=bench.device.name
    )
    return Recheck(measured, fingerprint, numerics, accuracy, verdict, {"built_from": "model.onnx"})


def recheck_of(checked: Mapping[str, Any], manifest: Mapping[str, Any], *, allow_unverified: bool = False) -> Recheck:
    """Return what a board found, by itself, as if it had been found here; it has no data, so no accuracy."""
    measured, fingerprint = Measurement.from_json(checked["measurement"]), checked["fingerprint"]
    known = manifest["job"].get("data_digest") is not None
    unjudged = "a board checks itself without images; `edgeprune verify` without --import does it" if known else ""
    verdict = _judged(manifest, measured, checked["numerics"], fingerprint, None, unjudged, allow_unverified)
    return Recheck(measured, fingerprint, checked["numerics"], None, verdict, checked["report"])


def data_of(manifest: Mapping[str, Any], named: str | None = None) -> tuple[Data | None, str]:
    """Return the data that a bundle was made with; where they can't be had, None and why.

    Code that only the manifest names is not executed.

    Args:
        manifest: of the bundle.
        named: where the data are now; None looks where they were.

    Raises:
        EdgePruneError: what was named can't be read, or is not what the bundle was made with.
    """
    job, source = manifest["job"], manifest["source"]
    place = named or source.get("data") or job["data"]
    if job["data_digest"] is None:
        if named:
            raise InputError(f"the bundle was made without data, and {named} was named", remedy="leave out --data")
        return None, ""
    if place is None:
        return None, f"the images were a Python object, which nothing names; {_NAME_THEM}"
    if named is None and is_function_name(place):
        return None, f"the images come from code, which is executed only where it is named; add --data {place}"
    try:
        return _same_data(place, job, source), ""
    except EdgePruneError as error:
        if named:
            raise
        return None, f"{error.message}; {error.remedy if isinstance(error, MissingError) else _NAME_THEM}"


def _same_data(place: str, job: Mapping[str, Any], source: Mapping[str, Any]) -> Data:
    """Return the data at a place.

    Raises:
        InputError: they can't be read, or are not those that the bundle was made with.
        MissingError: a package that they need is not there.
    """
    shape = parse_shape(source["input"])
    data = load_data(place, mean=source["mean"], std=source["std"], input_shape=shape, seed=job["seed"])
    if data.digest != job["data_digest"]:
        raise InputError(
            f"{place} holds other images than those that the bundle was made with", remedy=f"{_NAME_THEM}, unchanged"
        )
    return data


def _judged(
    manifest: Mapping[str, Any],
    measured: Measurement,
    numerics: dict[str, float | None],
    fingerprint: Mapping[str, str],
    accuracy: float | None,
    unjudged: str,
    allow_unverified: bool,
    device: str = "local",
) -> Verdict:
    """Return what the numbers of a check mean for what the bundle promises, which is of the export's device."""
    before, max_drop = manifest["result"], manifest["job"].get("max_drop")
    changes = {
        name: f"{name}: {before['fingerprint'].get(name, 'unknown')} -> {value}"
        for name, value in sorted(fingerprint.items())
        if before["fingerprint"].get(name) != value
    }
    verdict = judge(
        budget_ms=before["latency_ms"]["budget"],
        measured_ms=measured.median_ms,
        trusted=measured.trusted,
        distrust=measured.reason,
        numerics=numerics,
        precision=fingerprint["precision"],
        dense_accuracy=before["accuracy"]["dense"],
        engine_accuracy=accuracy,
        float_accuracy=before["accuracy"].get("pruned"),
        max_drop=None if max_drop is None else max_drop / 100,
        allow_unverified=allow_unverified,
        elsewhere="; ".join(said for name, said in changes.items() if name not in _UPDATED),
        unjudged=unjudged,
        device=device,
    )
    updated = "; ".join(said for name, said in changes.items() if name in _UPDATED)
    if updated:
        verdict = replace(verdict, reasons=(*verdict.reasons, f"the software is not that of the export: {updated}"))
    return verdict
