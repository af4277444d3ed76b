from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.graph.conditions import ALWAYS
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from tests.nets import SqueezeExcite

ONE = frozenset([frozenset(["branch"])])
GATE = frozenset([frozenset(["reduce"])])


class Branch(nn.Module):
    """A stem, and a branch of two convolutions that is added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.branch = nn.Conv2d(4, 4, 1)
        self.back = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.last((x + self.back(self.branch(x).relu())).relu())


def made(model: nn.Module) -> Blueprint:
    return Blueprint(model.eval(), trace(model, torch.zeros(1, 3, 4, 4)))


def left(blueprint: Blueprint, name: str) -> set[str]:
    plan = WidthPlan.from_scores(blueprint.graph, {}, {name: 0})
    return {node.name for node in onnx.load_model_from_string(blueprint.at(plan)).graph.node}


def test_a_gate_without_its_inner_layer_leaves_neither_pool_nor_product() -> None:
    blueprint = made(SqueezeExcite())
    works = {name: node.works for name, node in blueprint.nodes.items()}
    assert works["conv"] == works["last"] == ALWAYS
    gone = {name for name, one in works.items() if one == GATE}
    assert {blueprint.nodes[name].op for name in gone} == {"GlobalAveragePool", "Conv", "Relu", "Sigmoid", "Mul"}
    assert left(blueprint, "reduce") == set(works) - gone, "and so it is in the network that is built"


def test_a_sum_with_what_has_become_a_constant_lives_and_has_less_to_do() -> None:
    nodes = made(Branch()).nodes
    add = next(node for node in nodes.values() if node.op == "Add")
    assert (add.works, add.lives) == (ONE, ALWAYS)
    assert nodes["back"].lives == nodes["back"].works == ONE
    assert nodes["last"].works == ALWAYS
