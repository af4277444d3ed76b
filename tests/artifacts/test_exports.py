"""Exports that are kept: the same network is exported once, whatever its weights, and another one is another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
from edgeprune.artifacts.exports import kept_export
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency.quantized import quantized
from tests.nets import Concat, Depthwise, Flatten, PaddedShortcut, Residual, SqueezeExcite, WrittenSize

X = torch.zeros(1, 3, 8, 8)


class Unfolded(nn.Module):
    """A BatchNorm behind an activation and before padding can't be folded; and a factor without a dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.two = nn.Conv2d(8, 4, 3, padding=1)
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.norm(self.one(x).relu()).relu()) * self.factor


class Conv2d(nn.Conv2d):
    """Torch's own, under its own name."""


class Picked(nn.Module):
    """Takes the channels that a buffer names, and adds what `constant` returns."""

    def __init__(self, picked: list[int], constant: Callable[[], Tensor] = lambda: torch.zeros(4, 1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("picked", torch.tensor(picked))
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[:, self.picked] + self.constant()


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


def made(build: Callable[[], nn.Module], seed: int, folder: Path) -> Blueprint:
    torch.manual_seed(seed)
    model = build().eval()
    return Blueprint(model, trace(model, X), folder)


@pytest.mark.parametrize(
    "build",
    [Unfolded, Depthwise, Concat, Flatten, PaddedShortcut, SqueezeExcite, WrittenSize],
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
        assert np.std(outputs[0]) > 0


def exports_of(builds: list[Callable[[], nn.Module]], folder: Path, x: Tensor = X) -> int:
    """Return how many of the networks, one after the other, had to be exported; what to is a stand-in."""
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "stand-in", [], [])
    asked: list[nn.Module] = []
    for build in builds:
        model = build().eval()

        def export(model: nn.Module = model) -> onnx.ModelProto:
            asked.append(model)
            return onnx.helper.make_model(graph)

        kept_export(folder, trace(model, x), model, export)
    return len(asked)


@pytest.mark.parametrize(
    ("other", "exports"),
    [
        (lambda: Scaled(2.0, [1, 2, 3, 4]), 1),
        (lambda: Scaled(3.0, [1, 2, 3, 4]), 2),
        (lambda: Scaled(2.0, [1, 2, 3, 5]), 2),
        (lambda: Scaled(2.0, [1, 2, 3, 4], kernel=1), 2),
        (lambda: nn.Sequential(Scaled(2.0, [1, 2, 3, 4])), 2),
    ],
    ids=["same", "factor", "table", "kernel", "names"],
)
def test_what_computes_something_else_is_exported_anew(
    other: Callable[[], nn.Module], exports: int, tmp_path: Path
) -> None:
    first = partial(Scaled, 2.0, [1, 2, 3, 4])
    assert exports_of([first, other, first, other], tmp_path) == exports


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: Picked([0, 1, 2, 3]), lambda: Picked([3, 2, 1, 0])),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1)), lambda: nn.Sequential(Conv2d(3, 4, 1))),
    ],
    ids=["indices", "class"],
)
def test_what_its_calls_alone_do_not_tell_apart(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module], tmp_path: Path
) -> None:
    assert exports_of([one, other, one], tmp_path) == 2


def test_another_input_is_another_export(tmp_path: Path) -> None:
    exports = [exports_of([Residual], tmp_path, torch.zeros(1, 3, at, at)) for at in (8, 16, 8)]
    assert exports == [1, 1, 0]


def test_random_numbers_in_the_code_are_the_same_calls() -> None:
    digests = [trace(Picked([0, 1, 2, 3], lambda: torch.randn(4, 1, 1)), X).calls for _ in range(2)]
    assert digests[0] == digests[1] != ""


STRIPES = torch.eye(4)[:, :1, None].to_sparse()


@pytest.mark.parametrize(
    "constant",
    [lambda: torch.rand(4, 1, 1, generator=torch.Generator()), lambda: STRIPES.to_dense()],
    ids=["generator", "sparse"],
)
def test_what_no_text_tells_is_traced_all_the_same(constant: Callable[[], Tensor]) -> None:
    assert trace(Picked([0, 1, 2, 3], constant), X).calls == ""


def test_a_view_of_other_numbers_is_told_by_its_entries() -> None:
    numbers = torch.tensor([1 + 2j, 3 - 4j, 5j, 6])
    views = (numbers, numbers.conj(), numbers.imag)
    constants = (lambda one=one: (one.real if one.is_complex() else one)[:, None, None] for one in views)
    digests = [trace(Picked([0, 1, 2, 3], constant), X).calls for constant in constants]
    assert all(digests)
    assert len(set(digests)) == 3


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert made(Residual, 0, tmp_path / "file").nodes


def test_what_is_kept_can_be_quantized(tmp_path: Path) -> None:
    made(Unfolded, 0, tmp_path)
    again = made(Unfolded, 1, tmp_path)
    assert quantized(again.at(WidthPlan.dense(again.graph)), "qdq", reduced=True)


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
