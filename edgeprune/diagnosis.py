"""What `edgeprune doctor` says: which runtimes are there, and what makes times on a device less repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.errors import EdgePruneError
from edgeprune.latency.bench import open_bench
from edgeprune.progress import Progress
from edgeprune.targets.target import find_target, targets


def doctor_document(target: str | None, device: str, progress: Progress) -> dict[str, Any]:
    """Return `edgeprune.doctor/1` for one target, or for all that are known.

    Raises:
        MissingError: the target that was named can't be used.
    """
    findings: list[Mapping[str, str | None]] = []
    examined = False
    for name in [target] if target else sorted(targets()):
        try:
            with open_bench(name, device=device) as bench, progress.step(f"looking at {name}"):
                fingerprint = bench.fingerprint()
                described = f"{fingerprint['runtime_version']}, {fingerprint['precision']} on {fingerprint['device']}"
                findings.append({"what": f"target {name}", "value": described, "remedy": None})
                if not examined:
                    hardware = f"{fingerprint.get('cpu', '?')}, {fingerprint.get('cores', '?')} cores"
                    findings.append({"what": "processor", "value": hardware, "remedy": None})
                    findings += [finding.to_json() for finding in bench.findings()]
                    examined = True
        except EdgePruneError as error:
            if target:
                raise
            findings.append({"what": f"target {name}", "value": error.message, "remedy": error.remedy})
    return {
        "schema": "edgeprune.doctor/1",
        "target": target,
        "device": device,
        "runtime": find_target(target).runtime if target else None,
        "findings": findings,
    }
