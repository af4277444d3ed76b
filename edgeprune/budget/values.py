"""Value of every width of every group: what the budgeter maximises."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeprune.graph.channels import ChannelGraph


def values_from_scores(graph: ChannelGraph, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return group -> value of keeping its w best channels, at index w (length channels + 1).

    A group's value at w is the sum of its w highest scores, so that each further channel adds no more than the one
    before. Values of all groups together sum to 1 in the dense network.
    """
    total = sum(float(score.sum()) for score in scores.values()) or 1.0
    values = {}
    for group in graph:
        best = np.sort(np.asarray(scores[group.name], dtype=np.float64).reshape(group.parts, -1), axis=1)[:, ::-1]
        steps = best.sum(axis=0) / group.parts
        values[group.name] = np.concatenate([[0.0], np.cumsum(np.repeat(steps, group.parts))]) / total
    return values
