from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.latency.staircase import Staircase

FORM = "Conv+Relu"


def fitted(cin: np.ndarray, cout: np.ndarray, us: np.ndarray, form: str = FORM) -> Staircase:
    return Staircase.fit(samples(cin, cout, us, form))


def samples(cin: np.ndarray, cout: np.ndarray, us: np.ndarray, form: str = FORM) -> list[tuple[str, int, int, float]]:
    return [(form, int(one), int(other), float(time)) for one, other, time in zip(cin, cout, us, strict=True)]


def up(width: np.ndarray, block: int) -> np.ndarray:
    return np.ceil(width / block) * block


def assert_learned(us: Callable[[np.ndarray, np.ndarray], np.ndarray], least: int) -> None:
    """Fit to 60 widths from `least` to 64, and compare at 200 others."""
    cin, cout = np.random.default_rng(0).integers(least, 65, (2, 60))
    fit = fitted(cin, cout, us(cin, cout))
    new_in, new_out = np.random.default_rng(1).integers(least, 65, (2, 200))
    error = fit(FORM, new_in, new_out) / us(new_in, new_out) - 1
    assert np.median(np.abs(error)) < 0.02
    assert np.quantile(np.abs(error), 0.95) < 0.06


@pytest.mark.parametrize(("block_in", "block_out"), [(1, 8), (4, 16), (8, 8)])
def test_learns_the_blocks_of_a_kernel(block_in: int, block_out: int) -> None:
    assert_learned(lambda cin, cout: 2 + 0.01 * up(cin, block_in) * up(cout, block_out), least=1)


def test_learns_that_multiples_of_four_are_computed_in_another_way() -> None:
    """ONNX Runtime lays tensors out in blocks where the channels are a multiple of four; other widths cost more."""
    assert_learned(
        lambda cin, cout: 2 + 0.01 * np.where(cin % 4 == 0, up(cin, 8), 1.5 * cin) * up(cout, 8),
        least=8,
    )


def test_what_does_not_multiply_grows_with_the_channels_alone() -> None:
    # Three points of 1 + 0.5 c: a fit with products would bend upwards, and foretell more than 129 us at 256 channels.
    widths = np.array([16, 32, 64])
    fit = Staircase.fit(samples(widths, widths, 1 + 0.5 * widths), multiplies=False)
    assert fit(FORM, 256, 256) == pytest.approx(129, rel=0.05)


def test_what_is_fused_costs_what_its_own_form_says() -> None:
    # Two forms with as much fused: one costs 10 us more at all widths. At a width of the other one it does so too.
    cin = cout = np.array([16, 32, 48, 64])
    us = 2 + 0.01 * cin * cout
    fit = Staircase.fit([*samples(cin, cout, us), *samples(cin[:3], cout[:3], us[:3] + 10, "Conv+Gelu")])
    assert fit("Conv+Gelu", 64, 64) - fit(FORM, 64, 64) == pytest.approx(10, rel=0.15)


def test_one_channel_to_one_says_nothing_of_its_neighbours() -> None:
    """What costs 200 us there is another kernel: 1 to 2 and 2 to 1 stay near the 4 us of their own."""
    cin, cout = (grid.ravel() for grid in np.meshgrid([1, 2, 3, 4, 8, 16], [1, 2, 3, 4, 8, 16]))
    us = np.where((cin == 1) & (cout == 1), 200.0, 4.0 + 0.1 * cin * cout)
    fit = fitted(cin, cout, us)
    assert fit(FORM, 1, 1) == pytest.approx(200.0, rel=0.05)
    assert fit(FORM, 1, 2) == pytest.approx(4.2, rel=0.05)
    assert fit(FORM, 2, 1) == pytest.approx(4.2, rel=0.05)


def test_one_measurement_is_returned_as_it_is() -> None:
    fit = fitted(np.array([16]), np.array([32]), np.array([7.0]))
    assert fit(FORM, 16, 32) == pytest.approx(7.0, rel=0.02)


def test_broadcasts_like_numpy() -> None:
    fit = fitted(np.array([8, 16, 32]), np.array([8, 32, 16]), np.array([1.0, 4.0, 4.0]))
    assert fit(FORM, np.arange(1, 5)[:, None], np.arange(1, 7)[None, :]).shape == (4, 6)


@given(st.lists(st.tuples(st.integers(1, 512), st.integers(1, 512), st.floats(0.1, 1e4)), min_size=1, max_size=20))
def test_is_finite_and_not_negative_whatever_was_measured(points: list[tuple[int, int, float]]) -> None:
    cin, cout, us = (np.array(column) for column in zip(*points, strict=True))
    found = fitted(cin, cout, us)(FORM, np.arange(1, 513), 256)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


def test_a_fused_form_learns_the_steps_of_its_kin() -> None:
    """Measured at 16 channels alone, 2 us above the plain form: at 4 and 8 it is known from that form's steps."""
    widths = np.arange(1, 17)
    plain, sixteen = 1 + 0.5 * up(widths, 4), np.array([16])
    fit = Staircase.fit(
        samples(widths, widths, plain) + samples(sixteen, sixteen, np.array([1 + 0.5 * 16 + 2]), "Conv+Add+Relu")
    )
    found = fit("Conv+Add+Relu", np.array([4, 8, 16]), np.array([4, 8, 16]))
    assert found[2] == pytest.approx(11.0, rel=0.05)
    assert (found > fit(FORM, np.array([4, 8, 16]), np.array([4, 8, 16]))).all()
    assert found[0] == pytest.approx(3.0 + 2.0, rel=0.4)
    assert found[1] == pytest.approx(5.0 + 2.0, rel=0.3)


def test_a_form_that_was_never_measured_is_taken_for_its_kin() -> None:
    widths = np.arange(1, 17)
    fit = fitted(widths, widths, 1.0 + widths)
    assert fit("Conv+Relu+Slice", 8, 8) == pytest.approx(float(fit(FORM, 8, 8)), rel=0.15)


def test_one_channel_to_one_in_one_form_says_nothing_of_another_form() -> None:
    """190 us as Conv+Relu where it costs 13 us with a sum fused: measured, on OpenVINO."""
    grid = np.array([1, 2, 4, 8, 16])
    fit = Staircase.fit(
        samples(grid, grid, np.array([190.0, 17, 18, 20, 24]))
        + samples(grid, grid, np.array([13.0, 17, 18, 20, 24]), "Conv+Add+Relu")
    )
    assert fit(FORM, 1, 1) == pytest.approx(190, rel=0.1)
    assert fit("Conv+Add+Relu", 1, 1) == pytest.approx(13, rel=0.25)


def test_what_was_measured_several_times_counts_as_its_mean() -> None:
    """The geometric mean of 8 and 12.5 is 10."""
    fit = Staircase.fit([(FORM, 8, 8, 8.0), (FORM, 8, 8, 12.5)])
    assert fit(FORM, 8, 8) == pytest.approx(10.0, rel=0.01)
    assert len(fit.points) == 1


def test_one_channel_to_one_says_nothing_of_other_narrow_layers() -> None:
    # Only one channel to one is slow, 1000 us; all other layers take 1 us and 0.01 us a channel that goes out.
    widths = [(cin, cout) for cin in (2, 4, 16, 32) for cout in (8, 16, 64, 128)]
    samples = [("Conv", cin, cout, 1 + 0.01 * cout) for cin, cout in widths]
    fitted = Staircase.fit([*samples, ("Conv", 1, 1, 1000.0)])
    assert float(fitted("Conv", 7, 101)) < 10
    assert float(fitted("Conv", 1, 1)) == pytest.approx(1000, rel=0.5)
