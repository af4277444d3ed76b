"""A machine that is busy is waited for: bursts of load end, and giving up would lose what was done before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from edgeprune.latency.bench import Bench, Reference
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.rule import Rule
from edgeprune.progress import SILENT, Progress
from edgeprune.units import format_seconds

PATIENCE_S = 60.0
"""A measurement that a busy machine spoils is begun again for so long ..."""

PAUSE_S = 3.0
"""... after the machine was left alone for so long."""

T = TypeVar("T")


def when_quiet(
    attempt: Callable[[], T], measurements: Callable[[T], Iterable[Measurement]], progress: Progress = SILENT
) -> tuple[T, str]:
    """Measure until all of it can be trusted, for `PATIENCE_S` at most, and say once that this is waited for.

    What does not pass by itself is not waited for.

    Args:
        attempt: measures.
        measurements: returns them from what came out.
        progress: where to say so.

    Returns:
        What came out last, and why it can't be trusted, with for how long it was tried; empty where it can.
    """
    started = time.monotonic()
    told = False
    while True:
        found = attempt()
        doubtful = first_untrusted(measurements(found))
        tried_s = time.monotonic() - started
        if doubtful is None:
            return found, ""
        reason = doubtful.reason
        if doubtful.lasting:
            return found, reason
        if tried_s + PAUSE_S > PATIENCE_S:
            return found, f"{reason}; tried for {format_seconds(tried_s)}"
        if not told:
            left = format_seconds(PATIENCE_S - tried_s)
            progress.say(f"waiting for quiet, {left} at most: {reason}")
            told = True
        time.sleep(PAUSE_S)


def first_untrusted(found: Iterable[Measurement]) -> Measurement | None:
    """Return the first measurement that can't be trusted, one whose reason does not pass by itself before others."""
    untrusted = [one for one in found if not one.trusted]
    return next((one for one in untrusted if one.lasting), untrusted[0] if untrusted else None)


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

    def measurements(found: Mapping[str, Measurement]) -> Iterable[Measurement]:
        return found.values()

    found, reason = when_quiet(lambda: bench.measure(models, rule, reference), measurements, progress)
    return {name: one if one.trusted else replace(one, reason=reason) for name, one in found.items()}
