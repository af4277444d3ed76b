from __future__ import annotations

import numpy as np

from edgeprune.graph.conditions import ALWAYS, NEVER, both, either, holds


def when(*terms: str) -> frozenset[frozenset[str]]:
    """Return a condition from terms of one-letter groups: "ab" holds where both have channels."""
    return frozenset(map(frozenset, terms))


def test_what_another_term_contains_is_dropped() -> None:
    assert either([when("ab"), when("a"), when("c")]) == when("a", "c")
    assert either([when("a"), ALWAYS]) == ALWAYS
    assert either([]) == NEVER


def test_both_hold_where_all_groups_have_channels() -> None:
    assert both([when("a", "b"), when("c")]) == when("ac", "bc")
    assert both([when("a"), ALWAYS]) == when("a")
    assert both([when("a"), NEVER]) == NEVER


def test_widths_are_numbers_or_arrays_and_those_left_out_have_channels() -> None:
    condition = when("ab", "c")
    assert holds(condition, {"a": np.array([0, 3, 3]), "b": 2, "c": 0}).tolist() == [False, True, True]
    assert holds(condition, {"c": 0})
    assert holds(ALWAYS, {"a": 0})
    assert not holds(NEVER, {})
