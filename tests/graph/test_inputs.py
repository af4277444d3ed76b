from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.errors import InputError
from edgeprune.graph.inputs import as_inputs, call_with, captured_inputs, eval_mode, find_module
from tests import nets


def test_one_tensor_a_tuple_and_a_dict():
    x = torch.ones(1)
    assert as_inputs(x) == (x,)
    assert as_inputs((x, 2)) == (x, 2)
    assert as_inputs({"x": x}) == {"x": x}
    assert call_with(nn.Identity(), (x,)) is x
    assert call_with(nn.Identity(), {"input": x}) is x


def test_inputs_of_a_part_without_running_the_rest():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError

    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), Fails())
    (seen,) = captured_inputs(model, model[1], (torch.ones(2, 2, 2),))
    assert seen.shape == (2, 4)
    assert not model[1]._forward_pre_hooks


def test_a_part_that_is_never_called_is_refused():
    model = nets.Residual()
    with pytest.raises(InputError, match="never called"):
        captured_inputs(model, nn.Identity(), (torch.ones(1, 3, 4, 4),))


def test_modes_come_back_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())

    def fail() -> None:
        with eval_mode(model):
            assert not model[0].training
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert [module.training for module in model.modules()] == [True, True, False]


def test_find_module():
    model = nets.Residual()
    assert find_module(model, "one.0") is model.one[0]
    with pytest.raises(InputError, match="did you mean"):
        find_module(model, "one.00")
