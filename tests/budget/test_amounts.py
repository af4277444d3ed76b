"""Products of widths, as amounts of the programme, against the products themselves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from edgeprune.budget.amounts import add_product
from edgeprune.budget.programme import Programme, Terms
from edgeprune.graph.layers import Axis

WIDTHS = {"a": np.array([1, 4]), "b": np.array([0, 2, 3]), "c": np.array([2, 5])}

axes = st.builds(Axis, st.integers(0, 3), st.dictionaries(st.sampled_from("abc"), st.integers(1, 3).map(float)))


def at(programme: Programme, widths: tuple[int, ...]) -> np.ndarray:
    """Return the variables when the groups keep `widths`: the constraints leave no choice but these."""
    lower, upper = np.zeros(programme.count), programme.upper.copy()
    for (name, choices), width in zip(programme.groups.items(), widths, strict=True):
        lower[programme.chosen(name)] = upper[programme.chosen(name)] = choices == width
    right = np.array([right for _, right in programme.equal])
    rows = [LinearConstraint(programme.matrix([row for row, _ in programme.equal]), right, right)]
    if programme.below:
        rows.append(LinearConstraint(programme.matrix(programme.below), ub=0.0))
    found = milp(np.zeros(programme.count), bounds=Bounds(lower, upper), constraints=rows)
    return np.asarray(found.x)


@settings(max_examples=60, deadline=None)
@given(st.lists(axes, min_size=1, max_size=2), st.integers(1, 9))
def test_a_product_of_two_dimensions_is_exact(dimensions: list[Axis], factor: int) -> None:
    programme, terms = Programme(WIDTHS), Terms()
    add_product(programme, terms, dimensions, factor)
    amount = terms.amount(programme.count)
    for widths in itertools.product(*WIDTHS.values()):
        sizes = [axis.width(dict(zip(WIDTHS, widths, strict=True))) for axis in dimensions]
        assert amount.of(at(programme, widths)) == pytest.approx(factor * math.prod(sizes), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(axes, min_size=3, max_size=3))
def test_a_product_of_three_is_never_too_small(dimensions: list[Axis]) -> None:
    programme, terms = Programme(WIDTHS), Terms()
    add_product(programme, terms, dimensions)
    amount = terms.amount(programme.count)
    for widths in itertools.product(*WIDTHS.values()):
        sizes = [axis.width(dict(zip(WIDTHS, widths, strict=True))) for axis in dimensions]
        assert amount.of(at(programme, widths)) >= math.prod(sizes) - 1e-6


def test_half_channels_flow_in_whole() -> None:
    """Half of a's channels and each of b's: between the 1.5 and the 6.5 that may come in lie 5, not 4."""
    programme = Programme({"a": np.array([3, 9]), "b": np.array([0, 2]), "c": np.array([1, 2])})
    flow = programme.inflow(Axis(0, {"a": 0.5, "b": 1.0}), "c")
    assert at(programme, (9, 2, 2))[flow].tolist() == pytest.approx([0.0, 5.0])


def test_two_groups_share_one_block_of_variables() -> None:
    programme, terms = Programme(WIDTHS), Terms()
    one, other = Axis(0, {"a": 1}), Axis(2, {"b": 1})
    add_product(programme, terms, [one, other])
    count = programme.count
    add_product(programme, terms, [other, one])
    assert programme.count == count == 7 + 2 * 3
