"""The objects that `report`, `diff` and `replay` print with `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune.report.differences import Difference, latency_limit
from edgeprune.report.facts import Facts


def report_document(bundles: Sequence[Path], page: Path) -> dict[str, Any]:
    """Return `edgeprune.report/1`."""
    return {
        "schema": "edgeprune.report/1",
        "bundles": [str(bundle) for bundle in bundles],
        "report": str(page),
        "bytes": page.stat().st_size,
    }


def diff_document(
    verb: str, before: Path, after: Path | None, found: Sequence[Difference], one: Facts, other: Facts
) -> dict[str, Any]:
    """Return `edgeprune.diff/1` or `edgeprune.replay/1`: every difference, and how far latencies may be apart.

    Args:
        verb: `diff` or `replay`.
        before: the first bundle.
        after: the second; None where it was not kept.
        found: what differs.
        one: the first bundle's facts.
        other: the second's.
    """
    return {
        "schema": f"edgeprune.{verb}/1",
        "bundles": [str(before), str(after) if after is not None else None],
        "same": not found,
        "differences": [each.to_json() for each in found],
        "latency_limit": latency_limit(one, other),
        "latency_ms": {"before": one.result["latency_ms"]["measured"], "after": other.result["latency_ms"]["measured"]},
    }
