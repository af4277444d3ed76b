"""The pace of a core: how long a fixed piece of work takes in the calling thread, right now.

Another virtual machine on the other hardware thread of the same core slows all that runs, and leaves no trace in the
clocks that a guest can read: no steal, no wait, no switch. A fixed piece of work tells it plainly. Measured on a shared
virtual machine (AMD EPYC, two cores): the work takes 7.0 us or 12.5 us and hardly anything between; the core is alone
for 60 to 98 % of the time, in stretches of some 20 to 200 ms; inferences of 1.4 ms with the core alone before and after
them lie within 1.4 % of each other from the 2nd to the 75th percentile, all of them together within 7.6 %.

A clock that changes its frequency shows in the same way.
"""

from __future__ import annotations

import time

_STEPS = 200


def pace_us() -> float:
    """Return the microseconds of the piece of work, the faster of two: the first may find the caches full of others."""
    return min(_once_us(), _once_us())


def _once_us() -> float:
    start = time.perf_counter()
    total = 0
    for step in range(_STEPS):
        total += step * step
    return (time.perf_counter() - start) * 1e6
