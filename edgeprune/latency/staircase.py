"""A layer's time over its input and output channels: a staircase, fitted to what was measured.

Kernels work on blocks of channels: a width is paid for as if rounded up to the next block, or a ragged last block costs
extra. Which blocks is not assumed: a non-negative least-squares fit chooses among products of rounded-up widths, once
more for ragged ones, and what it leaves is interpolated between the measured points.

Layers that differ only in what is fused into them (Conv+Relu, Conv+Add+Relu) share one fit: what is fused adds to the
trend, by form and by how much is fused, and residuals speak for the other forms too, only less. So a width that one
form was never measured at is known from the other. A layer from one channel to one stands apart, in each form: to
oneDNN that is a depthwise convolution, for which it has no fast kernel where the step is 1 (OpenVINO 2026.4, AVX2, 3x3
at 32 x 32: 190 us, and 17 us from one channel to two; 13 to 21 us with a sum fused).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.optimize import nnls

_BLOCKS_OUT = (1, 4, 8, 16, 32)
_BLOCKS_IN = (1, 4, 8, 16)
_WHOLE = (8, 4)
"""Widths that are no multiple of these have a ragged last block: vectors hold so many numbers, or half of them."""

_NARROW = 8
"""Fewer channels than this come in unblocked, whether ragged or not (ONNX Runtime 1.32; 1x1 at 28 x 28, in us a channel
that goes out: 0.7 from 7 channels, 0.4 from 11)."""

_RIDGE = 1e-3
_NOISE = 0.6
_REACH = 0.25
_KINSHIP = 0.7
"""What a residual of one fused form says about another form at the same widths."""
_APART = 1.0
"""Extra squared distance, in units of the reach, between a ragged width and one that is not."""
_LEAST_US = 0.2
"""Runtimes count whole microseconds; a time below this can't be told from zero."""


@dataclass(frozen=True, eq=False)
class Staircase:
    """Fitted cost of the layers of one kin.

    Attributes:
        forms: their fused forms; the operators of each joined by `+`.
        coefficients: of the rounded-up products, in microseconds.
        points: where it was measured: (form, cin, cout), shape (n, 3).
        correction: weights of the residuals' logarithms at the points.
        reach: how far a measured point speaks for its neighbours, in channels, for cin and cout.
        multiplies: each channel that comes in is computed with each that goes out; else, as in a depthwise convolution,
            nothing grows with the product of the two.
    """

    forms: tuple[str, ...]
    coefficients: np.ndarray
    points: np.ndarray
    correction: np.ndarray
    reach: np.ndarray
    multiplies: bool = True

    @classmethod
    def fit(cls, samples: Sequence[tuple[str, int, int, float]], *, multiplies: bool = True) -> Staircase:
        """Fit to samples (form, cin, cout, microseconds), at least one. Those of one point count as their mean."""
        forms = tuple(sorted({form for form, *_ in samples}))
        found: dict[tuple[int, int, int], list[float]] = {}
        for form, cin, cout, us in samples:
            found.setdefault((forms.index(form), cin, cout), []).append(math.log(max(us, _LEAST_US)))
        points = np.array(list(found), dtype=np.float64)
        logs = np.array([fmean(one) for one in found.values()])
        counts = np.array([len(one) for one in found.values()])
        features = _features(forms, points, multiplies)
        coefficients = _fitted(features / np.exp(logs)[:, None], np.sqrt(counts))
        trend = np.maximum(features @ coefficients, _LEAST_US)
        reach = np.maximum(_REACH * points[:, 1:].max(axis=0), 4.0)
        kernel = _kernel(points, reach)
        correction = np.linalg.solve(kernel + _NOISE * np.diag(1 / counts), logs - np.log(trend))
        return cls(forms, coefficients, points, correction, reach, multiplies)

    def __call__(self, form: str, cin: Any, cout: Any) -> np.ndarray:
        """Return microseconds at `cin`, `cout`, broadcast against each other; of a form that may be a new one."""
        cin, cout = np.broadcast_arrays(np.asarray(cin, dtype=np.float64), np.asarray(cout, dtype=np.float64))
        forms = (*self.forms, form)
        at = np.stack([np.full(cin.size, forms.index(form)), cin.ravel(), cout.ravel()], axis=1)
        trend = _features(forms, at, self.multiplies)[:, : len(self.coefficients)] @ self.coefficients
        residual = self._residual(forms.index(form), cin.ravel(), cout.ravel())
        return np.asarray((np.maximum(trend, _LEAST_US) * np.exp(residual)).reshape(cin.shape))

    def _residual(self, form: int, cin: np.ndarray, cout: np.ndarray) -> np.ndarray:
        """Return the kernel's product with the correction."""
        same, alone = self.points[:, 0] == form, _alone(self.points)
        speaks = self.correction * np.where(same, 1.0, _KINSHIP) * ~alone
        ins, at_in = np.unique(cin, return_inverse=True)
        outs, at_out = np.unique(cout, return_inverse=True)
        near_in, near_out = (
            _nearness(widths, self.points[:, axis], self.reach[axis - 1]) for axis, widths in ((1, ins), (2, outs))
        )
        if len(cin) < len(ins) * len(outs):
            found = np.einsum("ip,p,ip->i", near_in[at_in], speaks, near_out[at_out])
        else:  # few widths in many pairs: each pair once
            found = ((near_in * speaks) @ near_out.T)[at_in, at_out]
        return np.asarray(np.where((cin == 1) & (cout == 1), self.correction[same & alone].sum(), found))


def _fitted(relative: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the non-negative coefficients by which the columns of `relative` come nearest to ones.

    There are more columns than most layers have points, and so many perfect fits; the ridge chooses the one that rests
    on all columns that say the same, and not on whichever comes first.
    """
    columns = relative * weights[:, None]
    norms = np.linalg.norm(columns, axis=0)
    scale = np.where(norms > 0, norms, 1.0)  # what no point has stays at rounding, and is not blown up by it
    ridge = np.sqrt(_RIDGE) * np.eye(len(scale))
    target = np.append(weights, np.zeros(len(scale)))
    return np.asarray(nnls(np.concatenate([columns / scale, ridge]), target)[0] / scale)


def _features(forms: Sequence[str], points: np.ndarray, multiplies: bool) -> np.ndarray:
    """Return the columns of the fit: rounded-up widths, their products, what ragged, narrow and fused ones pay.

    Where one side is ragged and the other is not, the layout may change in between, which is paid for too. The last
    columns stand for the forms, one after the other: one channel to one, and what is fused.
    """
    form, cin, cout = points.T
    ins = [_up(cin, block) for block in _BLOCKS_IN]
    outs = [_up(cout, block) for block in _BLOCKS_OUT]
    ones, whole = np.ones_like(cin), _up(cout, _WHOLE[0])
    costs, corners = [ones, cin, whole], [ones]
    products = []
    if multiplies:
        costs, corners = [*costs, cin * whole], [*corners, cin * whole]
        products = [one * two for one in ins for two in outs]
    apart = _alone(points)
    ragged_in, ragged_out = ([(width % block != 0) & ~apart for block in _WHOLE] for width in (cin, cout))
    narrow = (cin < _NARROW) & ~apart
    ragged = [one * cost for one in (*ragged_in, *ragged_out, narrow) for cost in costs]
    meetings = [(narrow, two) for two in ragged_out]
    meetings += zip(ragged_in, ragged_out, strict=True)
    meetings += [(ragged_in[-1], ~ragged_out[-1]), (~ragged_in[-1], ragged_out[-1])]
    both = [one * two * cost for one, two in meetings for cost in corners]
    count = np.array([one.count("+") for one in forms])[form.astype(int)]
    own = [(form == at) * cost for at in range(len(forms)) for cost in (apart, ones, whole)]
    return np.stack([ones, *ins, *outs, *products, *ragged, *both, count, count * whole, *own], axis=1)


def _alone(points: np.ndarray) -> np.ndarray:
    return np.asarray((points[:, 1:] == 1).all(axis=1))


def _up(width: np.ndarray, block: int) -> np.ndarray:
    return np.ceil(width / block) * block


def _kernel(points: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return how much each point learns from each: little where one is more ragged than the other."""
    near = [_nearness(points[:, axis], points[:, axis], reach[axis - 1]) for axis in (1, 2)]
    same = points[:, :1] == points[:, 0]
    alone = _alone(points)[:, None]
    related = np.where(same, 1.0, np.where(alone, 0.0, _KINSHIP)) * (alone == alone.T)
    return np.asarray(near[0] * near[1] * related)


def _nearness(one: np.ndarray, other: np.ndarray, reach: float) -> np.ndarray:
    """Return the kernel along one axis."""
    distance = ((one[:, None] - other[None, :]) / reach) ** 2
    for block in _WHOLE:
        distance += ((one[:, None] % block == 0) != (other[None, :] % block == 0)) * _APART
    return np.asarray(np.exp(-0.5 * distance))
