"""Modules with a channel rule of their own: the nodes of one call of such a module are followed as one operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.fx import Node

from edgeprune.graph.call import Rule


@dataclass(eq=False)
class Region:
    """One call of a module that has a rule.

    Attributes:
        path: the module's name.
        rule: what follows channels through it.
        nodes: its nodes, in the order of execution.
    """

    path: str
    rule: Rule
    nodes: list[Node] = field(default_factory=list)

    @property
    def inputs(self) -> list[Node]:
        """The nodes outside that it reads, in the order in which it does."""
        inside = set(self.nodes)
        read = [one for node in self.nodes for one in node.all_input_nodes if one not in inside]
        return list(dict.fromkeys(read))

    @property
    def results(self) -> list[Node]:
        """Its nodes that are read outside."""
        inside = set(self.nodes)
        return [node for node in self.nodes if any(user not in inside for user in node.users)]


def find_regions(nodes: Sequence[Node], model: nn.Module, rules: Mapping[type[nn.Module], Rule]) -> dict[Node, Region]:
    """Return the region of every node that lies in one; of modules in each other the outermost counts."""
    found: dict[str, Region] = {}
    region_of: dict[Node, Region] = {}
    for node in nodes if rules else ():
        if node.op != "call_function":
            continue
        for call, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            rule = rules.get(type(model.get_submodule(path))) if path else None
            if rule is not None:
                region = found.setdefault(call, Region(path, rule))
                region.nodes.append(node)
                region_of[node] = region
                break
    return region_of
