from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.budget.values import values_from_scores
from edgeprune.graph.trace import trace
from tests.nets import Residual


def test_best_channels_first_and_one_in_all() -> None:
    graph = trace(Residual(), torch.zeros(1, 3, 8, 8))
    scores = {group.name: np.zeros(group.channels) for group in graph}
    scores["one.0"] = np.array([1.0, 4.0, 0.0, 3.0])
    scores["two.0"] = np.array([0.0, 2.0, 0.0, 0.0])
    values = values_from_scores(graph, scores)
    assert values["one.0"] == pytest.approx([0, 0.4, 0.7, 0.8, 0.8])
    assert values["two.0"] == pytest.approx([0, 0.2, 0.2, 0.2, 0.2])
    assert sum(value[-1] for value in values.values()) == pytest.approx(1)
