"""What each width is worth: what the measured losses are kept by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune import scoring
from edgeprune.artifacts.subject import python_subject
from edgeprune.graph.trace import trace
from edgeprune.job import Job
from edgeprune.latency.store import TableStore
from edgeprune.progress import SILENT


class Net(nn.Module):
    """Two layers, and between them whatever is given: no module, so that nothing but the calls tells of it."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.two(self.between(self.one(x))).mean((2, 3))
        return result


def test_losses_are_kept_by_the_network_its_calls_and_its_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(scoring, "measured_losses", lambda *_, cache, **__: asked.append(cache) or {})
    weights = Net(torch.relu).state_dict()
    data: Any = SimpleNamespace(digest="images")
    for between, size in ((torch.relu, 8), (torch.relu, 8), (torch.sigmoid, 8), (torch.relu, 6)):
        model = Net(between)
        model.load_state_dict(weights)
        subject = replace(python_subject(model, torch.zeros(1, 3, size, size), None), data=data)
        graph = trace(model, subject.example_inputs)
        scores = {group.name: np.ones(group.channels) for group in graph}
        job = Job("net.py:net", "openvino")
        scoring.values_of(job, subject, graph, "l2", scores, [], TableStore(tmp_path), SILENT)
    assert asked[0] == asked[1]
    assert len(set(asked)) == 3
