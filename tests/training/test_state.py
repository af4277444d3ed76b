import copy

import torch
from torch import nn

from edgeprune.training.state import state_digest


def test_equal_states_have_equal_digests() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert state_digest(model) == state_digest(copy.deepcopy(model))
    assert state_digest(model) == state_digest(copy.deepcopy(model).to(memory_format=torch.channels_last))


def test_a_value_a_shape_a_name_and_a_dtype_each_change_it() -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        changed = copy.deepcopy(model)
        changed[0].bias[0] += 1e-6
    reshaped = nn.Sequential(nn.Linear(3, 2))
    renamed = nn.Sequential()
    renamed.add_module("first", model[0])
    halved = copy.deepcopy(model).bfloat16()
    assert len({state_digest(one) for one in (model, changed, reshaped, renamed, halved)}) == 5
