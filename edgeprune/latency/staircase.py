"""A layer's time over its input and output channels: a staircase, fitted to what was measured.

Kernels work on blocks of channels: a width is paid for as if rounded up to the next block, or a ragged last block costs
extra. Which blocks is not assumed: a non-negative least-squares fit chooses among products of rounded-up widths, once
more for ragged ones, and what it leaves is interpolated between the measured points. A layer from one channel to one
stands apart: to oneDNN that is a depthwise convolution, for which it has no fast kernel where the step is 1 (OpenVINO
2026.4, AVX2, 3x3 at 32 x 32: 190 us, and 17 us from one channel to two).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

_BLOCKS_OUT = (1, 4, 8, 16, 32)
_BLOCKS_IN = (1, 4, 8, 16)
_BLOCK = 8
"""Widths that are no multiple of this have a ragged last block."""

_NOISE = 1.0
_REACH = 0.25
_LEAST_US = 0.2
"""Runtimes count whole microseconds; less than this is not told from nothing."""


@dataclass(frozen=True, eq=False)
class Staircase:
    """Fitted cost of one family of layers.

    Attributes:
        coefficients: of the rounded-up products, in microseconds.
        points: measured (cin, cout), shape (n, 2).
        correction: weights of the residuals' logarithms at the points.
        reach: how far a measured point speaks for its neighbours, in channels, for cin and cout.
    """

    coefficients: np.ndarray
    points: np.ndarray
    correction: np.ndarray
    reach: np.ndarray

    @classmethod
    def fit(cls, cin: np.ndarray, cout: np.ndarray, us: np.ndarray) -> Staircase:
        """Fit to times `us` measured at `cin` and `cout`, arrays of one length n >= 1."""
        points = np.stack([cin, cout], axis=1).astype(np.float64)
        us = np.maximum(np.asarray(us, dtype=np.float64), _LEAST_US)
        features = _features(points[:, 0], points[:, 1])
        scale = np.maximum(features.max(axis=0), 1e-12)
        coefficients = nnls(features / scale / us[:, None], np.ones(len(us)))[0] / scale
        trend = np.maximum(features @ coefficients, _LEAST_US)
        reach = np.maximum(_REACH * points.max(axis=0), 4.0)
        kernel = _kernel(points, points, reach)
        correction = np.linalg.solve(kernel + _NOISE * np.eye(len(us)), np.log(us / trend))
        return cls(coefficients, points, correction, reach)

    def __call__(self, cin: Any, cout: Any) -> np.ndarray:
        """Return microseconds at `cin`, `cout`, broadcast against each other."""
        cin, cout = np.broadcast_arrays(np.asarray(cin, dtype=np.float64), np.asarray(cout, dtype=np.float64))
        at = np.stack([cin.ravel(), cout.ravel()], axis=1)
        trend = _features(at[:, 0], at[:, 1]) @ self.coefficients
        residual = _kernel(at, self.points, self.reach) @ self.correction
        return np.asarray((np.maximum(trend, _LEAST_US) * np.exp(residual)).reshape(cin.shape))

    def spans(self, cin: int, cout: int) -> bool:
        """Whether both widths lie among the measured ones, so that nothing is extrapolated."""
        at = (cin, cout)
        return bool((self.points.min(axis=0) <= at).all() and (self.points.max(axis=0) >= at).all())


def _features(cin: np.ndarray, cout: np.ndarray) -> np.ndarray:
    """Return the columns of the fit: rounded-up widths, their products, what ragged widths pay, one channel to one."""
    ins = [_up(cin, block) for block in _BLOCKS_IN]
    outs = [_up(cout, block) for block in _BLOCKS_OUT]
    ones, whole = np.ones_like(cin), _up(cout, _BLOCK)
    ragged_in, ragged_out = cin % _BLOCK != 0, cout % _BLOCK != 0
    ragged = [one * cost for one in (ragged_in, ragged_out) for cost in (ones, cin, whole, cin * whole)]
    both = [ragged_in * ragged_out * cost for cost in (ones, cin * whole)]
    alone = (cin == 1) & (cout == 1)
    return np.stack([ones, *ins, *outs, *(one * two for one in ins for two in outs), *ragged, *both, alone], axis=1)


def _up(width: np.ndarray, block: int) -> np.ndarray:
    return np.ceil(width / block) * block


def _kernel(one: np.ndarray, other: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return how much each point of `one` learns from each of `other`: little where one is ragged and the other not."""
    alike = (one == 1).all(axis=1)[:, None] == (other == 1).all(axis=1)[None, :]
    return np.asarray(math.prod(_nearness(one[:, axis], other[:, axis], reach[axis]) for axis in (0, 1)) * alike)


def _nearness(one: np.ndarray, other: np.ndarray, reach: float) -> np.ndarray:
    """Return the kernel along one axis, worked out once for each pair of widths: the points have few."""
    (ones, at), (others, there) = (np.unique(widths, return_inverse=True) for widths in (one, other))
    distance = ((ones[:, None] - others[None, :]) / reach) ** 2
    distance += ((ones[:, None] % _BLOCK == 0) != (others[None, :] % _BLOCK == 0)) * 2.0
    return np.asarray(np.exp(-0.5 * distance)[at][:, there])
