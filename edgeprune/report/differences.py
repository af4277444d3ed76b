"""What differs between two bundles, entry by entry: inputs, settings, versions, device, plan, files, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeprune.report.facts import Facts

REPEATABILITY = 0.1
"""Latencies that differ by less than this, relatively, are no difference: from one session to the next the same engine
differs by some per cent on the same machine, however narrow the spread in each was."""

SPREADS = 4
"""So many spreads (half of the undisturbed samples lie within one) are no difference either."""

FILES = ("model.safetensors", "plan.json", "model.onnx", "samples.npz")
"""Files that the same request makes the same; what a runtime builds and what holds latencies differs by nature."""

_SETTINGS_ASIDE = {"model_digest", "data_digest"}


@dataclass(frozen=True)
class Difference:
    """One entry that is not the same.

    Attributes:
        kind: `input`, `setting`, `version`, `fingerprint`, `plan`, `file`, `numerics`, `accuracy`, `latency`, `size`
            or `verdict`.
        name: what differs, such as a file's or a group's name.
        before: its value in the first bundle; None where that has none.
        after: its value in the second.
    """

    kind: str
    name: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """Return the difference as one JSON object."""
        return {"kind": self.kind, "name": self.name, "before": self.before, "after": self.after}


def differences(before: Facts, after: Facts) -> list[Difference]:
    """Return what differs, what causes a difference ahead of what follows from it."""
    jobs = [facts.manifest["job"] for facts in (before, after)]
    inputs = [_inputs(facts) for facts in (before, after)]
    settings = [{name: value for name, value in job.items() if name not in _SETTINGS_ASIDE} for job in jobs]
    results = [facts.result for facts in (before, after)]
    files = [{name: facts.hashes.get(name) for name in FILES} for facts in (before, after)]
    plans = [{name: group["width"] for name, group in result["plan"].items()} for result in results]
    statuses = [{"status": result["status"]} for result in results]
    return [
        *_unequal("input", *inputs),
        *_unequal("setting", *settings),
        *_unequal("version", before.manifest["versions"], after.manifest["versions"]),
        *_unequal("fingerprint", results[0]["fingerprint"], results[1]["fingerprint"]),
        *_unequal("plan", *plans),
        *_unequal("size", *({key: result[key]["pruned"] for key in ("macs", "params")} for result in results)),
        *_unequal("numerics", results[0]["numerics"], results[1]["numerics"]),
        *_unequal("accuracy", results[0]["accuracy"], results[1]["accuracy"]),
        *_unequal("file", *files),
        *_latencies(before, after),
        *_unequal("verdict", *statuses),
    ]


def changed_inputs(facts: Facts, now: Mapping[str, str]) -> list[Difference]:
    """Return the files that a bundle was made from and that are other files, or gone, now (name -> SHA-256)."""
    return list(_unequal("input", facts.manifest.get("inputs", {}), now))


def latency_limit(*bundles: Facts) -> float:
    """Return by how much two latencies may differ, relatively, and still be the same.

    That is what sessions differ by, or four times the widest spread in any of the bundles' measurements.
    """
    timed = [one for facts in bundles for one in facts.evidence.get("measurement", {}).values() if one]
    return max([REPEATABILITY, *(SPREADS * float(one["spread"]) for one in timed)])


def _inputs(facts: Facts) -> dict[str, Any]:
    job = facts.manifest["job"]
    loaded = {"model, as loaded": job.get("model_digest"), "data, as loaded": job.get("data_digest")}
    return {**facts.manifest.get("inputs", {}), **loaded}


def _latencies(before: Facts, after: Facts) -> Iterator[Difference]:
    """Yield latencies that are further apart than their spread; the budget is one where it is a share of the dense."""
    limit = latency_limit(before, after)
    one, other = (facts.result["latency_ms"] for facts in (before, after))
    for name in ("budget", "dense", "predicted", "measured", "floor"):
        first, second = one.get(name), other.get(name)
        missing = first is None or second is None
        if first != second and (missing or abs(second / first - 1) > limit):
            yield Difference("latency", name, first, second)


def _unequal(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in _names(before, after):
        if before.get(name) != after.get(name):
            yield Difference(kind, name, before.get(name), after.get(name))


def _names(*mappings: Mapping[str, Any]) -> Iterable[str]:
    return dict.fromkeys(name for mapping in mappings for name in mapping)
