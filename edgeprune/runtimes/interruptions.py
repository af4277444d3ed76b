"""What to believe of per-layer clocks on a machine that does other work as well.

A layer's clock runs on while its thread is switched away, but the thread's processor time does not. So the processor
time of an inference says whether it ran through, and is the most that its layers can have taken together.
"""

from __future__ import annotations

import time
from typing import Sequence

# Of the wall time; the rest of a run that nothing interrupted is the cost of looking at the clocks.
_RAN_THROUGH = 0.95


class Stopwatch:
    """Wall and processor time of the calling thread, from its making to `stop`."""

    def __init__(self) -> None:
        self._wall_s, self._used_s = time.perf_counter(), time.thread_time()
        self.wall_us = self.used_us = 0.0
        self.ran_through = True

    def stop(self) -> Stopwatch:
        """Take the times, `wall_us` and that of the processor, `used_us`, and `ran_through`: nothing came between."""
        used_s, wall_s = time.thread_time() - self._used_s, time.perf_counter() - self._wall_s
        self.wall_us, self.used_us = wall_s * 1e6, used_s * 1e6
        self.ran_through = used_s >= _RAN_THROUGH * wall_s
        return self


def least_disturbed(watches: Sequence[Stopwatch]) -> list[int]:
    """Return which of several equal pieces of work to believe: the quicker half of those that ran through.

    What disturbs only ever adds time, and not all of it shows as an interruption: a neighbour on the core's other
    hardware thread does not. Where fewer than two ran through, all of them count.
    """
    through = [at for at, watch in enumerate(watches) if watch.ran_through]
    if len(through) < 2:
        return list(range(len(watches)))
    return sorted(through, key=lambda at: watches[at].wall_us)[: (len(through) + 1) // 2]


def within(used_us: float, times_us: Sequence[float]) -> list[float]:
    """Return the times of all layers, lowered in proportion where together they are above `used_us`.

    An interruption strikes a layer in proportion to its time, so that is how what they are too long is taken off.
    """
    total_us = sum(times_us)
    share = min(1.0, used_us / total_us) if total_us > 0 else 1.0
    return [us * share for us in times_us]


def explained(layers_us: float, wall_us: float) -> dict[str, str]:
    """Return what a report says of layers that take `layers_us` together, in inferences of `wall_us`."""
    return {"layers_explain": f"{layers_us / wall_us:.1%} of the inferences that they were timed in"}
