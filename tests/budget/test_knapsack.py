"""Elimination and what is found by it, against all combinations, and worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.budget import knapsack
from edgeprune.budget.elimination import Elimination, Factor, Sum
from edgeprune.budget.knapsack import Knapsack
from edgeprune.budget.programme import Programme
from edgeprune.graph.layers import Axis


class Factors:
    """Groups of random sizes and sums of them, and what random pairs and triples of these lose and take together.

    Attributes:
        all: numbers of the groups' widths, a row a combination.
        lost: of each combination.
        taken: likewise.
    """

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        sizes = {f"g{at}": int(random.integers(1, 5)) for at in range(int(random.integers(1, 6)))}
        sums: list[Sum] = []
        counts = dict(sizes)
        for at in range(int(random.integers(0, 4)) if len(sizes) > 1 else 0):
            one, other = (str(name) for name in random.permutation(list(counts))[:2])
            places = np.unique(random.integers(0, 6, (counts[one], counts[other])), return_inverse=True)[1]
            sums.append(Sum(f"s{at}", (one, other), places.reshape(counts[one], counts[other])))
            counts[f"s{at}"] = sums[-1].size
        factors, count = [], 0
        for _ in range(int(random.integers(1, 7))):
            of = random.permutation(list(counts))[: int(random.integers(1, 4))]
            names = tuple(str(one) for one in of)
            shape = tuple(counts[name] for name in names)
            values = random.integers(1, 3, shape).astype(float)
            factors.append(Factor(names, count + np.arange(math.prod(shape)).reshape(shape), values))
            count += math.prod(shape)
        self.count = count
        self.elimination = Elimination(sizes, factors, sums)
        self.objective = random.integers(0, 50, count).astype(float)
        self.each = random.integers(0, 50, count).astype(float)
        self.names = list(sizes)
        self.all = list(itertools.product(*(range(size) for size in sizes.values())))
        variables = [self.elimination.variables(dict(zip(sizes, one, strict=True)), count) for one in self.all]
        self.lost, self.taken = (np.array([one @ each for one in variables]) for each in (self.objective, self.each))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_least_sums_are_those_of_all_combinations(seed: int) -> None:
    one = Factors(seed)
    sums, messages = one.elimination.upward(one.elimination.tables(one.objective))
    best = one.elimination.best(sums)
    assert one.objective @ one.elimination.variables(best, one.count) == one.lost.min()
    least = one.elimination.downward(sums, messages)
    for name, scope in one.elimination.scopes.items():
        expected = np.full(one.elimination.shapes[name], math.inf)  # where no combination leads to a sum's value
        for places, lost in zip(one.all, one.lost, strict=True):
            complete = one.elimination.complete(dict(zip(one.names, places, strict=True)))
            np.minimum.at(expected, tuple(complete[group] for group in scope), lost)
        assert least[name].tolist() == expected.tolist()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.1, 1.1))
def test_the_best_within_a_limit_is_that_of_all_combinations(seed: int, share: float) -> None:
    one = Factors(seed)
    most = math.floor(one.taken.min() + share * (one.taken.max() - one.taken.min())) + 0.5
    found = Knapsack(one.elimination, one.objective, one.each, most).least(gap=0.0)
    within = one.taken <= most
    if found is None:
        assert not within.any()
        return
    variables = one.elimination.variables(found.places, one.count)
    assert one.each @ variables <= most
    assert one.objective @ variables == one.lost[within].min()
    assert found.gap == 0.0


def test_a_plan_within_the_gap_is_enough() -> None:
    # a and b lose 10 or 0 and take 0 or 4, of which 5 may be taken: one of them is lost, 10. The relaxation loses the
    # one and 3/4 of the other: 20 - 10 * 5 / 4 = 7.5, so that a plan that loses 10 is proven to be within 25 %.
    factors = [Factor((name,), np.array([2 * at, 2 * at + 1]), np.ones(2)) for at, name in enumerate("ab")]
    elimination = Elimination(dict.fromkeys("ab", 2), factors)
    one = Knapsack(elimination, np.array([10.0, 0, 10, 0]), np.array([0.0, 4, 0, 4]), 5.0)
    near, best = one.least(gap=0.3), one.least(gap=0.0)
    assert near is not None
    assert best is not None
    assert near.gap <= 0.25
    assert best.gap == 0.0
    assert sorted(near.places.values()) == sorted(best.places.values()) == [0, 1]


def test_a_knapsack_that_no_price_solves() -> None:
    # Each of three loses 6, 5 or 4 when left out and takes 5, 4 or 3 when not; 7 may be taken. The two that take 4 and
    # 3 leave a loss of 6; by density (6/5, 5/4, 4/3) the relaxation takes those two as well, and is whole.
    # With 8 there are 1 to spare, which buys 6/5 of the first in the relaxation: 4.8; but 5 + 3 = 8 lose 5.
    factors = [Factor((name,), np.array([2 * at, 2 * at + 1]), np.ones(2)) for at, name in enumerate("abc")]
    elimination = Elimination(dict.fromkeys("abc", 2), factors)
    objective, each = np.array([6.0, 0, 5, 0, 4, 0]), np.array([0.0, 5, 0, 4, 0, 3])
    for most, kept in ((7.0, "bc"), (8.0, "ac"), (12.0, "abc"), (0.0, "")):
        found = Knapsack(elimination, objective, each, most).least(gap=0.0)
        assert found is not None
        assert [name for name in "abc" if found.places[name]] == list(kept)
    assert Knapsack(elimination, objective, each + 1.0, 2.9).least(gap=0.0) is None


@pytest.mark.parametrize("limit", ["_JOINED_MAX", "_LABELS_MAX"])
def test_where_too_many_partial_plans_are_left_it_says_how_far_it_came(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    # As above: 20 is lost by the plan that is met on the way, and 7.5 is the bound.
    factors = [Factor((name,), np.array([2 * at, 2 * at + 1]), np.ones(2)) for at, name in enumerate("ab")]
    elimination = Elimination(dict.fromkeys("ab", 2), factors)
    one = Knapsack(elimination, np.array([10.0, 0, 10, 0]), np.array([0.0, 4, 0, 4]), 5.0)
    monkeypatch.setattr(knapsack, limit, 0)
    found = one.least(gap=0.0)
    assert found is not None
    assert found.places == {"a": 0, "b": 0}
    assert found.gap == pytest.approx(1 - 7.5 / 20)


def test_tables_are_no_larger_than_they_need_be() -> None:
    # A trunk of 10 widths with three blocks of two groups each: a block's inner groups go first, each beside the trunk
    # and the other: 10 x 4 x 4. One after the other, so that no two blocks meet in one table.
    names = [(f"a{at}", f"b{at}") for at in range(3)]
    sizes = {"trunk": 10, **{name: 4 for pair in names for name in pair}}
    factors = [
        Factor(ends, np.zeros([sizes[end] for end in ends], int), np.ones([sizes[end] for end in ends]))
        for a, b in names
        for ends in (("trunk", a), (a, b), (b, "trunk"))
    ]
    assert Elimination(sizes, factors).largest == 160


def test_factors_say_what_the_programme_says() -> None:
    programme = Programme({"a": np.array([0, 2, 4]), "gate": np.array([0, 8]), "b": np.array([3, 6])})
    pair = programme.pair("a", "gate")
    both = programme.gated("a", "gate")
    outer = programme.pair(both, "b")
    factors = {factor.names: factor.columns for factor in programme.factors()[0]}
    assert programme.widths[both].tolist() == [0, 2, 4]
    assert factors["a", "gate"].tolist() == pair.tolist()
    # `a` while there is a gate is as wide as `a`, or empty: over a, gate and b.
    empty, two, four = outer.tolist()
    assert factors["a", "gate", "b"].tolist() == [[empty, empty], [empty, two], [empty, four]]


def test_what_flows_in_is_a_sum() -> None:
    """Half of a and all of b flow into c, these and e into d: above the least, a brings 0 or 2, b 0 or 2, e 0 or 5."""
    programme = Programme({"a": np.array([2, 6]), "b": np.array([1, 3]), "e": np.array([0, 5]), "c": np.array([1, 2])})
    few = programme.inflow(Axis(0, {"a": 0.5, "b": 1.0}), "c")
    many = programme.inflow(Axis(0, {"a": 0.5, "e": 1.0, "b": 1.0}), "c")
    factors, sums = programme.factors()
    assert [(one.of, one.places.tolist()) for one in sums] == [
        (("a", "b"), [[0, 1], [1, 2]]),  # 0, 2 or 4
        (("sum 0", "e"), [[0, 3], [1, 4], [2, 5]]),  # 0, 2, 4, 5, 7 or 9
    ]
    flows = {one.names: (one.columns.tolist(), one.values[:, 0].tolist()) for one in factors[-2:]}
    assert flows == {
        ("sum 0", "c"): ([few.tolist()] * 3, [0, 2, 4]),
        ("sum 1", "c"): ([many.tolist()] * 6, [0, 2, 4, 5, 7, 9]),
    }
