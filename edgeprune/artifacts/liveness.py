"""Which nodes of an exported network are left to run where groups have no channels.

A layer that nothing flows into computes its bias: what follows is known before the network runs and is folded away, and
what fed only layers without channels is not asked for. So a squeeze-excite whose inner layer is gone has neither pool
nor product: a product with constants is folded into the weights beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import onnx

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.conditions import ALWAYS, NEVER, Condition, both, either
from edgeprune.graph.layers import JOINS, PRODUCTS, Axis, EngineNode


def with_conditions(
    nodes: Mapping[str, EngineNode], graph: onnx.GraphProto, channels: ChannelGraph
) -> dict[str, EngineNode]:
    """Return the nodes with the conditions under which they run.

    Args:
        nodes: by name.
        graph: the exported dense network that they are of, in the order of execution.
        channels: its groups.
    """
    stored = {one.name for one in graph.initializer}
    varies: dict[str, Condition] = {}
    for node in graph.node:
        found = nodes[node.name]
        sides = [_of(name, varies, stored) for name in node.input if name]
        flows = [sides[0], _filled(found.cin, channels)] if node.op_type in PRODUCTS and sides else [either(sides)]
        varies.update(dict.fromkeys(node.output, both([*flows, _filled(found.cout, channels)])))
    needed: dict[str, Condition] = {value.name: ALWAYS for value in graph.output}
    conditioned: dict[str, EngineNode] = {}
    for node in reversed(graph.node):
        asked = either(needed.get(name, NEVER) for name in node.output)
        lives = both([asked, varies[node.output[0]]])
        for name in node.input:
            needed[name] = either([needed.get(name, NEVER), lives])
        sides = [_of(name, varies, stored) for name in node.input if name and name not in stored]
        joins = node.op_type in JOINS and len(sides) > 1
        works = both([lives, either(both(pair) for pair in combinations(sides, 2))]) if joins else lives
        conditioned[node.name] = replace(nodes[node.name], lives=lives, works=works)
    return {name: conditioned[name] for name in nodes}


def _of(name: str, varies: Mapping[str, Condition], stored: set[str]) -> Condition:
    return varies.get(name, NEVER if name in stored else ALWAYS)


def _filled(axis: Axis, channels: ChannelGraph) -> Condition:
    """Return when a dimension has entries left."""
    if axis.fixed > 0 or not axis.parts:
        return ALWAYS
    return either(
        frozenset([frozenset([name])]) if 0 in channels.group(name).possible else ALWAYS for name in axis.parts
    )
