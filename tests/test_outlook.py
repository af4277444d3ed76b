"""What is said of a run before it begins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgeprune.outlook import narrower
from edgeprune.training.data import load_data
from edgeprune.training.duration import recovery_seconds
from edgeprune.training.recipe import Recipe


class Clocked(nn.Module):
    """Gives zeros, and takes a second by the clock that it is given."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock[0] += 1.0
        return torch.zeros(len(x), 10)


def test_groups_that_lose_most_are_named_first() -> None:
    widths = {"a": (16, 16), "b": (8, 16), "c": (2, 32), **{f"d{n}": (30, 32) for n in range(6)}}
    groups = {name: {"width": width, "of": of, "modules": [f"{name}.conv"]} for name, (width, of) in widths.items()}
    said = narrower(groups)
    assert said.startswith("8 of 9 groups: c.conv 32 to 2, b.conv 16 to 8, d0.conv 32 to 30")
    assert said.endswith("d3.conv 32 to 30, and 2 more")
    assert narrower({"a": groups["a"]}) == "0 of 1 groups"


def test_a_recovery_takes_its_steps_times_a_forward_of_the_one_and_three_of_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    data = load_data("demo", input_shape=(1, 1, 32, 32))
    steps = data.train_steps(32)
    found = recovery_seconds(Clocked(clock), data, Recipe(epochs=2), 0.5)
    assert found == pytest.approx(2 * steps * 1.0 * (1 + 3 * 0.5))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert recovery_seconds(Clocked(clock), data, Recipe(epochs=2), 0.5) is None
