from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.budget.values import values_from_scores
from edgeprune.graph.trace import trace
from edgeprune.pruning import sensitivity
from edgeprune.pruning.sensitivity import measured_losses, values_from_losses

CORNERS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(32, 1)


def straight() -> nn.Sequential:
    """Four hidden channels are the inputs a, b and twice zero; the output is 3 a + 2 b."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)).eval()
    model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    model[1].weight.data = torch.tensor([[3.0, 2.0, 1.0, 1.0]])
    for layer in model:
        layer.bias.data.zero_()
    return model


SCORES = {"0": np.array([4.0, 3.0, 2.0, 1.0])}


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(CORNERS, torch.zeros(len(CORNERS)))]


def test_the_loss_is_what_a_refit_cannot_bring_back() -> None:
    graph = trace(straight(), torch.zeros(1, 2))
    # Two channels, a and b, say all. One, a, leaves 2 b: (2 b)^2 is 4 at every corner.
    found = measured_losses(straight(), graph, SCORES, batches())
    assert set(found) == {"0"}
    assert found["0"][2] == pytest.approx(0.0, abs=1e-4)
    assert found["0"][min(found["0"])] == pytest.approx(4.0, rel=0.01)
    assert sorted(found["0"]) == [1, 2]


def test_what_is_in_the_cache_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, cache = trace(straight(), torch.zeros(1, 2)), tmp_path / "losses.jsonl"
    found = measured_losses(straight(), graph, SCORES, batches(), cache=cache)
    monkeypatch.setattr(sensitivity, "slim", None)
    monkeypatch.setattr(sensitivity, "Refit", None)
    assert measured_losses(straight(), graph, SCORES, batches(), cache=cache) == found


def test_a_network_that_would_take_too_long_is_left_to_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = trace(straight(), torch.zeros(1, 2))
    # Two layers that read 2 and 4 features: a fit of 32 images at 32 positions takes 12 * 32 for the pass, and
    # 4 * (1024 + 2) + 16 * (1024 + 4) for the algebra; another pass sees what is left. Two cuts are measured.
    least = 2 * (12 * 32 + 4 * 1026 + 16 * 1028 + 12 * 32)
    monkeypatch.setattr(sensitivity, "WORK", least)
    assert measured_losses(straight(), graph, SCORES, batches())
    monkeypatch.setattr(sensitivity, "WORK", least - 1)
    assert measured_losses(straight(), graph, SCORES, batches()) == {}


def test_fewer_images_before_fewer_layers_only_where_both_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*(nn.Linear(10, 10) for _ in range(4))).eval()
    graph = trace(model, torch.zeros(1, 10))

    def effort(work: float) -> object:
        monkeypatch.setattr(sensitivity, "WORK", work)
        return sensitivity._affordable(model, graph, cuts=1, images=100)

    # 100 images are there: two passes of 400 multiply-accumulates each; a layer's algebra is 100 * (3200 + 10).
    assert effort(80_000 + 4 * 321_000) == (100, None)
    assert effort(80_000 + 4 * 321_000 - 1) == (100, 2)
    # 64 images: 51,200 and 100 * (2048 + 10) a layer.
    assert effort(80_000 + 2 * 321_000 - 1) == (64, 2), "all layers would be 874,400"
    assert effort(51_200 + 2 * 205_800 - 1) == (32, 2)


def test_measured_losses_scale_what_the_scores_guess() -> None:
    graph = trace(straight(), torch.zeros(1, 2))
    guessed = values_from_scores(graph, SCORES)
    np.testing.assert_allclose(guessed["0"], [0, 0.4, 0.7, 0.9, 1])
    found = values_from_losses(graph, guessed, {"0": {1: 6.0, 2: 12.0}})["0"]
    # Guessed to be lost: 1, 0.6, 0.3, 0.1, 0. The scale is 10 at width 1 and 40 at 2, also beyond; at 1 no more may be
    # lost than at 0, nor less than at 2: lost are 12, 12, 12, 4, 0.
    np.testing.assert_allclose(found, [0, 0, 0, 8 / 12, 1])


def test_the_scale_is_interpolated_by_its_logarithm() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)).eval()
    graph = trace(model, torch.zeros(1, 2))
    guessed = {name: np.array([0.0, 0.25, 0.5, 0.75, 1.0]) for name in ("0",)}
    found = values_from_losses(graph, guessed, {"0": {1: 0.75 * 16, 3: 0.25 * 4}})["0"]
    # Scales 16 at width 1 and 4 at 3, so 8 at 2: lost are 16, 12, 4, 1, 0.
    np.testing.assert_allclose(found, [0, 4 / 16, 12 / 16, 15 / 16, 1])
    assert math.isclose(found[-1], 1.0)


def test_a_group_that_was_not_measured_has_no_say() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2), nn.Linear(2, 1)).eval()
    graph = trace(model, torch.zeros(1, 2))
    guessed = {"0": np.array([0.0, 0.25, 0.5, 0.75, 1.0]), "1": np.array([0.0, 0.5, 1.0])}
    found = values_from_losses(graph, guessed, {"0": {2: 1.0}})
    np.testing.assert_allclose(found["0"], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found["1"], [0, 0, 0])


def test_between_two_measurements_no_more_is_lost_than_at_the_narrower_one() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)).eval()
    graph = trace(model, torch.zeros(1, 2))
    # Scores that tell the last channels from nothing: the guess is a billionth at width 3, a half at 2, and all at 1.
    guessed = {"0": np.array([0.0, 0.0, 0.5, 1 - 1e-9, 1.0])}
    found = values_from_losses(graph, guessed, {"0": {1: 8.0, 3: 4.0}})["0"]
    # The scale, 8 at width 1 and 4e9 at 3, is 1.8e5 between them: half of that is not lost at 2, but 8.
    np.testing.assert_allclose(found, [0, 0, 0, 4 / 8, 1])
