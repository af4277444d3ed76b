from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.graph.trace import trace
from edgeprune.pruning.importance import scores
from tests.nets import Residual


def two_layers(first: list[list[float]], second: list[list[float]]) -> nn.Sequential:
    model = nn.Sequential(
        nn.Linear(len(first[0]), len(first), bias=False), nn.Linear(len(second[0]), len(second), bias=False)
    )
    model[0].weight.data, model[1].weight.data = torch.tensor(first), torch.tensor(second)
    return model.eval()


def scored(model: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    graph = trace(model, images[:1])
    return scores(model, graph, "obs", [(images, torch.zeros(len(images), dtype=torch.int64))])


CORNERS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


def test_channels_that_know_nothing_of_each_other_cost_what_they_carry() -> None:
    # Inputs of variance 1 and no correlation: the squared error without channel j is (w_j * a_j)^2: 4 and 9.
    found = scored(two_layers([[1.0, 0.0], [0.0, 3.0]], [[2.0, 1.0]]), CORNERS)["0"]
    assert found[1] / found[0] == pytest.approx(9 / 4, rel=0.01)


def test_what_two_channels_both_know_is_free_once() -> None:
    # Channels 0 and 1 are the same: one goes for nothing, after that the other carries (1 + 1)^2 = 4, channel 2 has 1.
    found = scored(two_layers([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0, 1.0]]), CORNERS)["0"]
    free, rest = min(found[:2]), max(found[:2])
    assert free < 0.01 * found[2]
    assert rest / found[2] == pytest.approx(4.0, rel=0.02)


def test_a_constant_channel_is_free() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).eval()
    model[0].weight.data = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    model[0].bias.data = torch.tensor([5.0, 0.0])
    model[1].weight.data = torch.tensor([[1.0, 1.0]])
    found = scored(model, CORNERS)["0"]
    assert found[0] < 0.01 * found[1]


def test_outputs_that_the_logits_hang_on_count_more() -> None:
    # Both layers pass one of two independent inputs on; the last one multiplies the second by 3.
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).eval()
    model[0].weight.data = torch.eye(2)
    model[1].weight.data = torch.eye(2)
    model[2].weight.data = torch.tensor([[1.0, 3.0]])
    found = scored(model, CORNERS)
    assert found["0"][1] / found["0"][0] == pytest.approx(9.0, rel=0.02)
    assert found["1"][1] / found["1"][0] == pytest.approx(9.0, rel=0.02)


def test_convolutions_residuals_and_gradients() -> None:
    model = Residual().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    images = torch.randn(32, 3, 8, 8)
    graph = trace(model, images[:1])
    found = scored(model, images)
    assert set(found) == set(graph.groups)
    for name, values in found.items():
        assert values.shape == (graph.groups[name].channels,)
        assert (values >= 0).all()
        assert values.max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not images.requires_grad


def test_no_more_images_go_through_at_once_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    # An image makes 2 + 1 numbers of 4 bytes, each held four times: 48 bytes.
    model = two_layers([[1.0, 0.0], [0.0, 3.0]], [[2.0, 1.0]])
    seen: list[int] = []
    model.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    whole = scored(model, CORNERS)["0"]
    assert max(seen) == 4
    monkeypatch.setattr("edgeprune.pruning.surgeon.MEMORY", 2 * 48)
    seen.clear()
    np.testing.assert_allclose(scored(model, CORNERS)["0"], whole, rtol=1e-6)
    assert max(seen) == 2
