"""A machine that is busy is waited for: bursts of load end, and giving up would lose what was done before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from edgeprune.latency.bench import Bench, Reference
from edgeprune.latency.rule import Rule
from edgeprune.latency.samples import Measurement
from edgeprune.progress import SILENT, Progress
from edgeprune.units import format_seconds

PATIENCE_S = 60.0
"""A measurement that a busy machine spoils is begun again for so long ..."""

PAUSE_S = 3.0
"""... after the machine was left alone for so long."""

T = TypeVar("T")


def when_quiet(attempt: Callable[[], T], distrust: Callable[[T], str], progress: Progress = SILENT) -> tuple[T, str]:
    """Make a measurement until it can be trusted, for `PATIENCE_S` at most, and say once that this is waited for.

    Args:
        attempt: makes the measurement.
        distrust: says why what came out can't be trusted; empty where it can.
        progress: where to say so.

    Returns:
        What came out last, and why it can't be trusted, with for how long it was tried; empty where it can.
    """
    started = time.monotonic()
    told = False
    while True:
        found = attempt()
        reason = distrust(found)
        tried_s = time.monotonic() - started
        if not reason:
            return found, ""
        if tried_s + PAUSE_S > PATIENCE_S:
            return found, f"{reason}; tried for {format_seconds(tried_s)}"
        if not told:
            left = format_seconds(PATIENCE_S - tried_s)
            progress.say(f"waiting for quiet, {left} at most: {reason}")
            told = True
        time.sleep(PAUSE_S)


def measured_when_quiet(
    bench: Bench,
    models: Mapping[str, bytes],
    rule: Rule,
    reference: Reference | None = None,
    progress: Progress = SILENT,
) -> dict[str, Measurement]:
    """Time networks as `Bench.measure` does, once the device is quiet.

    Where it does not become so, the last measurements are returned, untrusted, with for how long was tried.
    """

    def busy(found: Mapping[str, Measurement]) -> str:
        return next((one.reason for one in found.values() if not one.trusted), "")

    found, reason = when_quiet(lambda: bench.measure(models, rule, reference), busy, progress)
    return {name: one if one.trusted else replace(one, reason=reason) for name, one in found.items()}
