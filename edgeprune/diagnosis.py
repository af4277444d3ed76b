"""What `edgeprune doctor` says: which runtimes are there, and what makes times on a device less repeatable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.errors import EdgePruneError
from edgeprune.latency.bench import examine, open_bench
from edgeprune.progress import Progress
from edgeprune.targets.device import Device
from edgeprune.targets.devices import check_reach, open_device
from edgeprune.targets.target import find_target, targets
from edgeprune.units import format_bytes

Finding = Mapping[str, str | None]


def doctor_document(target: str | None, device: str, progress: Progress) -> dict[str, Any]:
    """Return `edgeprune.doctor/1` for one target, or for all that are known.

    Raises:
        MissingError: the device can't be reached, or the target that was named can't be used.
    """
    if target:
        check_reach(find_target(target), device)
    with open_device(device, progress) as reached:
        with progress.step(f"looking at {device}"):
            hardware, disturbances = examine(reached)
        machine = f"{hardware.get('cpu', '?')}, {hardware.get('cores', '?')} cores"
        findings: list[Finding] = [{"what": "processor", "value": machine, "remedy": None}]
        findings += [finding.to_json() for finding in disturbances]
        for name in [target] if target else sorted(targets()):
            with progress.step(f"looking at {name}"):
                findings.append(_target_finding(name, reached, named=bool(target)))
    return _document(target, device, findings)


def cleaning_document(device: str, progress: Progress) -> dict[str, Any]:
    """Remove what is kept on a device; return `edgeprune.doctor/1` that says how much that was.

    Raises:
        MissingError: the device can't be reached.
    """
    with open_device(device, progress) as reached, progress.step(f"cleaning up on {device}"):
        freed = format_bytes(reached.clean())
    return _document(None, device, [{"what": "files kept on the device", "value": f"{freed} removed", "remedy": None}])


def _target_finding(name: str, device: Device, *, named: bool) -> Finding:
    try:
        fingerprint = open_bench(name, device=device).fingerprint()
    except EdgePruneError as error:
        if named:
            raise
        return {"what": f"target {name}", "value": error.message, "remedy": error.remedy}
    described = f"{fingerprint['runtime_version']}, {fingerprint['precision']} on {fingerprint['device']}"
    return {"what": f"target {name}", "value": described, "remedy": None}


def _document(target: str | None, device: str, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "schema": "edgeprune.doctor/1",
        "target": target,
        "device": device,
        "runtime": find_target(target).runtime if target else None,
        "findings": list(findings),
    }
