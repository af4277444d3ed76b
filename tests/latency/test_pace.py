from __future__ import annotations

import pytest

from edgeprune.latency.pace import pace_us


def test_the_pace_is_the_faster_of_two_pieces_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first takes from 1.0 to 1.000012 s, the second from 2.0 to 2.000007 s.
    clock = iter([1.0, 1.000012, 2.0, 2.000007])
    monkeypatch.setattr("edgeprune.latency.pace.time.perf_counter", lambda: next(clock))
    assert pace_us() == pytest.approx(7.0)


def test_the_work_is_real() -> None:
    # Two hundred multiplications in Python take no less than a microsecond on any processor of today.
    assert pace_us() > 1.0
