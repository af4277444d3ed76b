from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.latency.staircase import Staircase


def up(width: np.ndarray, block: int) -> np.ndarray:
    return np.ceil(width / block) * block


@pytest.mark.parametrize(("block_in", "block_out"), [(1, 8), (4, 16), (8, 8)])
def test_learns_the_blocks_of_a_kernel(block_in: int, block_out: int) -> None:
    random = np.random.default_rng(0)
    cin, cout = random.integers(1, 65, (2, 60))

    def us(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return 2 + 0.01 * up(one, block_in) * up(other, block_out)

    fit = Staircase.fit(cin, cout, us(cin, cout))

    new_in, new_out = np.random.default_rng(1).integers(1, 65, (2, 200))
    error = fit(new_in, new_out) / us(new_in, new_out) - 1
    assert np.median(np.abs(error)) < 0.02
    assert np.quantile(np.abs(error), 0.95) < 0.06


def test_one_channel_to_one_says_nothing_of_its_neighbours() -> None:
    """What costs 200 us there is another kernel: 1 to 2 and 2 to 1 stay near the 4 us of their own."""
    cin, cout = (grid.ravel() for grid in np.meshgrid([1, 2, 3, 4, 8, 16], [1, 2, 3, 4, 8, 16]))
    us = np.where((cin == 1) & (cout == 1), 200.0, 4.0 + 0.1 * cin * cout)
    fit = Staircase.fit(cin, cout, us)
    assert fit(1, 1) == pytest.approx(200.0, rel=0.05)
    assert fit(1, 2) == pytest.approx(4.2, rel=0.05)
    assert fit(2, 1) == pytest.approx(4.2, rel=0.05)


def test_one_measurement_is_returned_as_it_is() -> None:
    fit = Staircase.fit(np.array([16]), np.array([32]), np.array([7.0]))
    assert fit(16, 32) == pytest.approx(7.0, rel=0.02)


def test_broadcasts_like_numpy() -> None:
    fit = Staircase.fit(np.array([8, 16, 32]), np.array([8, 32, 16]), np.array([1.0, 4.0, 4.0]))
    assert fit(np.arange(1, 5)[:, None], np.arange(1, 7)[None, :]).shape == (4, 6)


@given(st.lists(st.tuples(st.integers(1, 512), st.integers(1, 512), st.floats(0.1, 1e4)), min_size=1, max_size=20))
def test_is_finite_and_not_negative_whatever_was_measured(points: list[tuple[int, int, float]]) -> None:
    cin, cout, us = (np.array(column) for column in zip(*points, strict=True))
    found = Staircase.fit(cin, cout, us)(np.arange(1, 513), 256)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
