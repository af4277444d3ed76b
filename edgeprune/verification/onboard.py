"""A bundle that checks itself on a board: what the `verify.py` that lies in it runs.

Needs Python 3.8 or later, numpy and the board's runtime. An engine is built there where that is how the runtime works;
the outputs are compared with the samples that PyTorch left, and the latency is measured by the rule of the export. What
comes out is a file with the hashes of what was checked, for `edgeprune verify BUNDLE --import FILE`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from edgeprune.artifacts.contents import file_digest, manifest_digest, read_manifest, read_samples
from edgeprune.errors import EdgePruneError, InputError, MissingError
from edgeprune.latency import worker
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.rule import FINAL
from edgeprune.records import read_json, write_json
from edgeprune.runtimes.onnxports import read_ports
from edgeprune.runtimes.registry import find_record
from edgeprune.units import format_ms
from edgeprune.verification.numerics import largest_difference
from edgeprune.verification.verdict import Verdict, judge

VERDICT = "edgeprune.verdict/1"
_DIGEST = "digest"

_PATIENCE_S = 60.0
"""For so long a busy board is given the time to become quiet."""

Json = Dict[str, Any]


def main(bundle: Path, words: Sequence[str]) -> int:
    """Check the bundle that the script lies in; return the exit code."""
    parser = argparse.ArgumentParser(description="Check this bundle on the machine that it lies on.")
    parser.add_argument("--out", type=Path, metavar="FILE", default=bundle / "verdict.json", help="where to write")
    parser.add_argument("--force", action="store_true", help="replace what is in FILE")
    given = parser.parse_args(words)
    try:
        _check_out(given.out, force=given.force)
        manifest = read_manifest(bundle)
        checked = check(bundle, manifest)
        write_json(given.out, VERDICT, checked)
    except EdgePruneError as error:
        print(f"error: {error.message}; {error.remedy}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except OSError as error:
        remedy = "make room or change permissions, or name another file with --out FILE"
        print(f"error: {error}; {remedy}", file=sys.stderr)  # noqa: T201
        return InputError.exit_code
    except ImportError as error:
        print(f"error: this Python can't import {error.name}: {error}; see that it is installed whole", file=sys.stderr)  # noqa: T201
        return MissingError.exit_code
    verdict = verdict_of(checked, manifest)
    print("\n".join(_lines(checked, verdict)))  # noqa: T201
    print(f"Written to {given.out}; take it back with: edgeprune verify BUNDLE --import FILE")  # noqa: T201
    return verdict.exit_code


def _check_out(out: Path, *, force: bool) -> None:
    """Refuse a file that can't be written, before minutes are spent on what goes into it.

    Raises:
        InputError: it is there already, or is a folder.
        OSError: its folder can't be written to.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder", remedy="name a file with --out FILE")
    if out.exists() and not force:
        raise InputError(f"{out} exists already", remedy="--force replaces it, --out FILE goes elsewhere")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Tried, not asked: a read-only file system says nothing in its permissions.
    tempfile.TemporaryFile(dir=str(out.parent)).close()


def check(bundle: Path, manifest: Mapping[str, Any]) -> Json:
    """Build where that is needed, compare and measure; return the verdict's content, sealed."""
    before = manifest["result"]["fingerprint"]
    arguments = {
        "runtime": before["runtime"],
        "precision": before["precision"],
        "threads": int(before["threads"]),
        "copies": before.get("copies") != "out",
        "rule": FINAL.to_json(),
    }
    model = {"model": bundle / "model.onnx"}
    with tempfile.TemporaryDirectory(prefix="edgeprune-verify-") as scratch:
        folder = Path(scratch)
        built = _built(bundle, arguments, folder) if find_record(before["runtime"]).processor == "gpu" else {}
        described = worker.describe(arguments, model, folder)
        difference = _difference(bundle, arguments, folder)
        found = _measured(arguments, model, folder)
        examined = worker.examine(arguments, {}, folder)
    fingerprint = {
        **described["hardware"],
        **described["properties"],
        "runtime": before["runtime"],
        "runtime_version": described["runtime_version"],
        "affinity": described["affinity"],
    }
    return sealed(
        {
            "manifest": manifest_digest(bundle),
            "model": file_digest(bundle / "model.onnx"),
            "samples": file_digest(bundle / "samples.npz"),
            "engine": built,
            "python": platform.python_version(),
            "fingerprint": fingerprint,
            "measurement": {**found["measurement"], "samples_ms": []},
            "report": found["report"],
            "numerics": {"engine_vs_torch": difference},
            "findings": examined["findings"],
        }
    )


def _measured(arguments: Json, model: Mapping[str, Path], folder: Path) -> Json:
    """Time the engine; again where something disturbed that may pass, for as long as `_PATIENCE_S`."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        found: Json = worker.measure(arguments, model, folder)["model"]
        measured = Measurement.from_json(found["measurement"])
        if measured.trusted or measured.lasting or time.monotonic() >= until:
            return found


def sealed(content: Mapping[str, Any]) -> Json:
    """Return the content with the hash of all of it, by which a changed file is known."""
    rest = {key: value for key, value in content.items() if key not in (_DIGEST, "schema")}
    return {**rest, _DIGEST: hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def read_verdict(path: Path, bundle: Path) -> Json:
    """Read a verdict and see that it is whole and of this bundle.

    Raises:
        InputError: changed, or of another bundle.
    """
    content = read_json(path, VERDICT)
    if sealed(content).get(_DIGEST) != content.get(_DIGEST):
        raise InputError(f"{path} was changed since it was written", remedy="run verify.py on the board again")
    own = {
        "manifest": manifest_digest(bundle),
        "model": file_digest(bundle / "model.onnx"),
        "samples": file_digest(bundle / "samples.npz"),
    }
    for name, digest in own.items():
        if content[name] != digest:
            raise InputError(
                f"{path} is the verdict of another bundle: its {name} differs", remedy="name the bundle that it is of"
            )
    return content


def verdict_of(checked: Mapping[str, Any], manifest: Mapping[str, Any]) -> Verdict:
    """Return what the numbers of a check mean for the bundle's budget."""
    measured = Measurement.from_json(checked["measurement"])
    return judge(
        budget_ms=manifest["result"]["latency_ms"]["budget"],
        measured_ms=measured.median_ms,
        trusted=measured.trusted,
        distrust=measured.reason,
        numerics=checked["numerics"],
        precision=checked["fingerprint"]["precision"],
        dense_accuracy=None,
        engine_accuracy=None,
        max_drop=None,
    )


def _built(bundle: Path, arguments: Json, folder: Path) -> Dict[str, str]:
    """Build the engine into the bundle, beside those of other devices; return its files' hashes.

    What is compared and measured afterwards, in this process, is that engine. It is not kept where the bundle can't be
    written to.
    """
    out = folder / "engine"
    out.mkdir()
    hashes = {}
    for name in worker.build(arguments, {"model": bundle / "model.onnx"}, out)["files"]:
        hashes[name] = file_digest(out / name)
        try:
            if not (bundle / "engine" / name).exists():
                (bundle / "engine").mkdir(exist_ok=True)
                shutil.copyfile(str(out / name), str(bundle / "engine" / name))
        except OSError as error:
            print(f"note: the engine is not kept: {error}", file=sys.stderr)  # noqa: T201
    return hashes


def _difference(bundle: Path, arguments: Json, folder: Path) -> float:
    """Run the stored inputs; return how far the outputs are from PyTorch's."""
    inputs, expected = read_samples(bundle / "samples.npz")
    names = list(read_ports((bundle / "model.onnx").read_bytes())[0])
    np.savez(str(folder / "inputs.npz"), **dict(zip(names, inputs)))  # type: ignore[arg-type]
    files = {"model": bundle / "model.onnx", "inputs": folder / "inputs.npz"}
    names = worker.outputs(arguments, files, folder)["outputs"]
    with np.load(str(folder / "outputs.npz"), allow_pickle=False) as stored:
        return largest_difference([stored[name] for name in names], expected)


def _lines(checked: Mapping[str, Any], verdict: Verdict) -> List[str]:
    measured, fingerprint = Measurement.from_json(checked["measurement"]), checked["fingerprint"]
    name = f"{fingerprint['runtime']} {fingerprint['runtime_version']}, {fingerprint['precision']}"
    times = f"{format_ms(measured.median_ms)}, 90th percentile {format_ms(measured.p90_ms)}"
    found = [
        f"{verdict.status.upper()}: {times}; {name}",
        f"Engine to PyTorch: {checked['numerics']['engine_vs_torch']:.1e} of the largest output",
        *(f"- {reason}" for reason in verdict.reasons),
        *(f"{name}: {value}" for name, value in checked["report"].items()),
    ]
    for finding in checked["findings"]:
        remedy = f" -> {finding['remedy']}" if finding["remedy"] else ""
        found.append(f"note: {finding['what']}: {finding['value']}{remedy}")
    return found
