"""What holds only while some groups have channels left: an *or* of *ands*, each the groups that must not be empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import numpy as np

Condition = frozenset[frozenset[str]]

ALWAYS: Condition = frozenset([frozenset()])
NEVER: Condition = frozenset()

_TERMS = 16
"""A condition of more terms than this is taken to hold always."""


def either(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that holds where any of them does."""
    return _shortest(frozenset().union(*conditions))


def both(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that holds where all of them do."""
    return reduce(lambda one, other: _shortest(frozenset(a | b for a in one for b in other)), conditions, ALWAYS)


def holds(condition: Condition, widths: Mapping[str, Any]) -> np.ndarray:
    """Return whether it holds at widths, numbers or arrays; groups that are not among them have channels."""
    found = np.zeros((), dtype=bool)
    for groups in condition:
        term = np.ones((), dtype=bool)
        for group in groups & set(widths):
            term = term & (np.asarray(widths[group]) > 0)
        found = found | term
    return np.asarray(found)


def _shortest(terms: frozenset[frozenset[str]]) -> Condition:
    """Drop the terms that another one contains."""
    kept = frozenset(one for one in terms if not any(other < one for other in terms))
    return kept if len(kept) <= _TERMS else ALWAYS
