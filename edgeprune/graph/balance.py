"""Equal parts: how many channels may go where the code takes a tensor as equal parts.

`x.chunk(2, dim=1)` of a narrower tensor gives the same halves only if each half has lost as many entries. Several such
cuts in a row (the units of a ShuffleNet stage) bind the numbers of channels removed from runs of channels by linear
equations. Of their whole solutions we use multiples of one, so that a single number, the width, still says everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

_FINEST = 8
"""Lengths n, n/2 ... n/_FINEST of each run are tried as the length of a part."""


def equations(balances: Sequence[Sequence[np.ndarray]], open_ones: np.ndarray) -> csr_matrix:
    """Return one row an equation, one column a channel: sum(row * removed) must be 0. Locked channels have zeros."""
    rows, columns, signs = [], [], []
    count = 0
    for first, *others in balances:
        for other in others:
            rows.append(np.full(len(other) + len(first), count))
            columns += [other, first]
            signs += [np.ones(len(other), np.int64), np.full(len(first), -1)]
            count += 1
    empty = np.zeros(0, np.int64)
    at, to, sign = (np.concatenate([*parts, empty]) for parts in (rows, columns, signs))
    found = csr_matrix((sign * open_ones[to], (at, to)), shape=(count, len(open_ones)))
    found.eliminate_zeros()
    keys = found @ np.random.default_rng(2).integers(1, 2**40, len(open_ones))
    _, different = np.unique(keys, return_index=True)
    return found[different[keys[different] != 0]]


def parts(sizes: np.ndarray, coefficients: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return for each independent set of runs the length of a part and how many parts each run has.

    Args:
        sizes: channels in each run.
        coefficients: one row an equation, one column a run; runs without a coefficient take no part.
    """
    linked = csr_matrix(np.abs(coefficients).T @ np.abs(coefficients))
    _, block = connected_components(linked, directed=False)
    bound = coefficients.any(axis=0)
    found = []
    for one in np.unique(block[bound]):
        inside = (block == one) & bound
        length, counts = _solve(sizes[inside], coefficients[:, inside])
        if counts.any():
            full = np.zeros(len(sizes), dtype=np.int64)
            full[inside] = counts
            found.append((length, full))
    return found


def _solve(sizes: np.ndarray, coefficients: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the part length and the parts of each run that let most channels go."""
    best, best_counts, best_gain = 1, np.zeros(len(sizes), dtype=np.int64), 0
    for length in sorted({int(n) // k for n in sizes for k in range(1, _FINEST + 1)} - {0, 1}, reverse=True):
        most = sizes // length
        if (length - 1) * most.sum() <= best_gain:
            continue
        result = milp(
            -np.ones(len(sizes)),
            constraints=LinearConstraint(coefficients, 0, 0),
            bounds=Bounds(0, most),
            integrality=np.ones(len(sizes)),
        )
        counts = np.zeros(len(sizes), dtype=np.int64) if result.x is None else np.round(result.x).astype(np.int64)
        gain = (length - 1) * int(counts.sum())
        if gain > best_gain:
            best, best_counts, best_gain = length, counts, gain
    return best, best_counts
