from __future__ import annotations

import time

from edgeprune.runtimes.interruptions import Stopwatch, within


def test_what_is_above_the_processor_time_comes_off_in_proportion() -> None:
    assert within(60.0, [30.0, 90.0, 0.0]) == [15.0, 45.0, 0.0]


def test_what_is_within_stays() -> None:
    assert within(200.0, [30.0, 90.0]) == [30.0, 90.0]
    assert within(200.0, [0.0]) == [0.0]


def test_a_thread_that_slept_did_not_run_through() -> None:
    watch = Stopwatch()
    time.sleep(0.02)
    assert not watch.stop().ran_through
    assert watch.used_us < 20_000
