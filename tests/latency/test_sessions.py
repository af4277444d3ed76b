from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.latency.sessions import reconciled


def test_one_session_is_taken_as_it_is() -> None:
    assert reconciled([{"a": 2.0}]) == pytest.approx({"a": 2.0})


def test_what_a_session_shares_drops_out() -> None:
    # The second session ran 4 % slower for both; their ratio of 1.5 is kept, and the level is between the sessions.
    found = reconciled([{"a": 2.0, "b": 3.0}, {"a": 2.08, "b": 3.12}])
    assert found["b"] / found["a"] == pytest.approx(1.5)
    assert found["a"] == pytest.approx(math.sqrt(2.0 * 2.08))


def test_a_network_timed_beside_another_gets_the_level_of_all_sessions() -> None:
    # a alone says 2, and 2.2 beside b: b is 10 % over a, wherever a comes to lie; and that is nearly in the middle.
    # a alone says 2, and 2.2 beside b: a comes to lie in the middle, and b stays 10 % over it.
    found = reconciled([{"a": 2.0}, {"a": 2.2, "b": 2.42}])
    assert found["a"] == pytest.approx(math.sqrt(2.0 * 2.2), rel=0.01)
    assert found["b"] / found["a"] == pytest.approx(1.1, rel=0.01)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 100), min_size=1), min_size=1, max_size=5))
def test_every_network_gets_a_time_near_the_range_of_all(sessions: list[dict[str, float]]) -> None:
    found = reconciled(sessions)
    assert set(found) == {name for session in sessions for name in session}
    every = [ms for session in sessions for ms in session.values()]
    for ms in found.values():
        assert min(every) ** 2 / max(every) / 1.01 <= ms <= max(every) ** 2 / min(every) * 1.01


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 100), min_size=1), st.integers(1, 4))
def test_sessions_that_agree_are_believed(session: dict[str, float], times: int) -> None:
    assert reconciled([session] * times) == pytest.approx(session)
