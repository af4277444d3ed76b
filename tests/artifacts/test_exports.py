"""Exports that are kept: the same network is exported once, whatever its weights, and another one is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgeprune.artifacts import blueprint as blueprints
from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from tests.nets import Concat, Depthwise, Flatten, PaddedShortcut, Residual, SqueezeExcite, WrittenSize

X = torch.zeros(1, 3, 8, 8)


class Scaled(nn.Module):
    """What it multiplies by, and by which table, is written in the code; the weights are the same for all."""

    def __init__(self, factor: float, table: list[float], kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, kernel, padding=kernel // 2)
        self.factor, self.table = factor, table

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.factor + torch.tensor(self.table)[:, None, None]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that torch has exported so far."""
    seen: list[nn.Module] = []
    real = blueprints.export_onnx

    def export_onnx(model: nn.Module, *args: Any, **options: Any) -> onnx.ModelProto:
        seen.append(model)
        return real(model, *args, **options)

    monkeypatch.setattr(blueprints, "export_onnx", export_onnx)
    return seen


def made(build: Callable[[], nn.Module], seed: int, folder: Path, x: Tensor = X) -> Blueprint:
    torch.manual_seed(seed)
    model = build().eval()
    return Blueprint(model, trace(model, x), folder)


@pytest.mark.parametrize(
    "build",
    [Residual, Depthwise, Concat, Flatten, PaddedShortcut, SqueezeExcite, WrittenSize],
    ids=lambda one: one.__name__,
)
def test_the_same_network_is_exported_once_whatever_its_weights(
    build: type[nn.Module], tmp_path: Path, exported: list[nn.Module]
) -> None:
    first, again = (made(build, seed, tmp_path) for seed in (0, 1))
    assert len(exported) == 1
    assert first.nodes == again.nodes
    narrow = {group.name: int(group.possible[group.possible > 0][0]) for group in first.graph.cuttable}
    for widths in ({}, narrow):
        one, other = (kept.at(WidthPlan.from_scores(kept.graph, {}, widths)) for kept in (first, again))
        shapes = [
            {tensor.name: tuple(tensor.dims) for tensor in onnx.load_model_from_string(model).graph.initializer}
            for model in (one, other)
        ]
        assert shapes[0] == shapes[1]
        session = onnxruntime.InferenceSession(other, providers=["CPUExecutionProvider"])
        outputs = session.run(None, {session.get_inputs()[0].name: np.ones(X.shape, np.float32)})
        assert np.isfinite(outputs[0]).all()


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (lambda: Scaled(2.0, [1, 2, 3, 4]), True),
        (lambda: Scaled(3.0, [1, 2, 3, 4]), False),
        (lambda: Scaled(2.0, [1, 2, 3, 5]), False),
        (lambda: Scaled(2.0, [1, 2, 3, 4], kernel=1), False),
        (lambda: nn.Sequential(Scaled(2.0, [1, 2, 3, 4])), False),
    ],
    ids=["same", "factor", "table", "kernel", "names"],
)
def test_what_computes_something_else_is_exported_anew(
    other: Callable[[], nn.Module], same: bool, tmp_path: Path, exported: list[nn.Module]
) -> None:
    made(lambda: Scaled(2.0, [1, 2, 3, 4]), 0, tmp_path)
    made(other, 0, tmp_path)
    assert len(exported) == (1 if same else 2)


def test_another_input_is_another_export(tmp_path: Path, exported: list[nn.Module]) -> None:
    sizes = [made(Residual, 0, tmp_path, torch.zeros(1, 3, at, at)).nodes["stem.0"].size for at in (8, 16, 8)]
    assert sizes == [(8, 8), (16, 16), (8, 8)]
    assert len(exported) == 2


def test_no_weights_are_kept_and_a_torn_file_is_made_again(tmp_path: Path, exported: list[nn.Module]) -> None:
    made(Residual, 0, tmp_path)
    (kept,) = tmp_path.glob("*.onnx")
    entries = {one.name: len(one.raw_data) for one in onnx.load(kept).graph.initializer}
    assert entries["stem.0.weight"] == 0
    kept.write_bytes(kept.read_bytes()[:-40] + b"\xff" * 20)
    made(Residual, 0, tmp_path)
    assert len(exported) == 2
    made(Residual, 0, tmp_path)
    assert len(exported) == 2
