from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import InputError
from edgeprune.graph.nodes import module_of, op_name
from edgeprune.graph.record import Recording, record

PIXELS = torch.zeros(1, 3, 4, 4)


def ops(recording: Recording) -> list[str]:
    return [op_name(node) for node in recording.nodes if node.op == "call_function"]


class Branching(nn.Module):
    """Looks at numbers that it made itself, which is fine, or at its input, which is not."""

    def __init__(self, at_input: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.at_input = at_input

    def forward(self, x: Tensor) -> Tensor:
        looked_at = x if self.at_input else torch.arange(3)
        return self.conv(x).relu() if looked_at.sum().item() > 2 else self.conv(x)


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.cache["last"] = self.linear(x)
        return self.cache["last"]


class Odd(nn.Module):
    def forward(self, x: Tensor) -> object:
        return object()


def test_composite_operators_are_whole_and_know_their_module_and_parameters():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    found = record(model, (PIXELS,))
    assert ops(found) == ["conv2d", "batch_norm", "flatten", "linear"]
    calls = [node for node in found.nodes if node.op == "call_function"]
    assert [module_of(node) for node in calls] == ["0", "1", "2", "3"]
    assert [found.names.get(node) for node in calls[0].all_input_nodes] == [None, "0.weight", "0.bias"]
    assert calls[0].all_input_nodes[0] in found.inputs
    assert tuple(calls[-1].meta["val"].shape) == (1, 2)


def test_attention_is_one_operator_also_in_an_encoder_layer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert ops(record(layer, (torch.zeros(1, 5, 8),))).count("scaled_dot_product_attention") == 1


def test_what_happens_in_place_is_seen_by_those_who_read_afterwards():
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y.add_(1)
            return y.relu()

    found = record(InPlace(), (PIXELS,))
    last = [node for node in found.nodes if node.op == "call_function"][-1]
    assert [op_name(last), op_name(last.all_input_nodes[0])] == ["relu", "add"]


def test_code_may_look_at_the_numbers_it_made():
    assert "relu" in ops(record(Branching(at_input=False), (PIXELS,)))


def test_code_that_looks_at_its_input_is_refused():
    with pytest.raises(InputError, match="can't be traced"):
        record(Branching(at_input=True), (PIXELS,))


def test_an_output_that_nobody_can_follow_is_refused():
    with pytest.raises(InputError, match="returns a object"):
        record(Odd(), (PIXELS,))


def test_constants_meet_tensors_without_data():
    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scale = torch.tensor([1.0, 2.0, 3.0])
            scale[:1] = x[0, 0, 0, :1]
            return x * scale[:, None, None]

    found = record(Mixed(), (PIXELS,))
    assert tuple(found.nodes[-2].meta["val"].shape) == (1, 3, 4, 4)


def test_the_network_is_left_as_it_was():
    model = Caching().train()
    before = copy.deepcopy(model.state_dict())
    record(model, (torch.zeros(1, 4),))
    assert (model.cache, model.training) == ({}, True)
    assert (len(model._forward_hooks), len(model._forward_pre_hooks)) == (0, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_that_a_hook_computes():
    with pytest.warns(FutureWarning):
        model = nn.utils.weight_norm(nn.Linear(4, 4))
    model(torch.zeros(1, 4))
    found = record(model, (torch.zeros(1, 4),))
    assert set(found.names.values()) == {"weight_g", "weight_v", "bias"}
