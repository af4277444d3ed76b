"""Whole branches: which groups may keep no channel at all, because a shortcut carries the rest.

Where all channels that a layer reads are gone, the layer computes a constant, its bias. That is no loss of the network
where the constant is added to something that still depends on the input, or scales it: the branch of a residual block,
the gate of a squeeze-and-excitation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch.fx import Node

from edgeprune.graph.channels import ChannelGroup
from edgeprune.graph.layers import Axis
from edgeprune.graph.nodes import written_by

_CARRIERS = ("add", "sub", "mul")


@dataclass(frozen=True)
class Flow:
    """How data flows through an exported network.

    Attributes:
        nodes: in the order of execution.
        inputs: the nodes that are the network's inputs, no parameters.
        weights: convolutions and linear layers -> their weight.
        ops: node -> name of its operator.
    """

    nodes: Sequence[Node]
    inputs: Collection[Node]
    weights: Mapping[Node, str]
    ops: Mapping[Node, str]

    def alive(self, constant: Collection[str]) -> set[Node]:
        """Return the nodes that depend on the network's input when the layers of the weights `constant` do not."""
        found = set(self.inputs)
        for node, reads in self._reads:
            if not found.isdisjoint(reads) and self.weights.get(node) not in constant:
                found.add(node)
                found.update(written_by(node))  # whoever reads these from now on reads what was written
        return found

    @cached_property
    def _reads(self) -> list[tuple[Node, list[Node]]]:
        return [(node, reads) for node in self.nodes if (reads := node.all_input_nodes)]

    @cached_property
    def _moving(self) -> set[Node]:
        return self.alive(())

    def carried(self, constant: Collection[str]) -> bool:
        """Say whether the outputs still depend on the input, and every constant joins something that does."""
        now = self.alive(constant)
        for node in self._moving - now:
            if node.op == "output":
                return False
            users = [user for user in node.users if user in now]
            if any(user.op == "output" or self.ops.get(user) not in _CARRIERS for user in users):
                return False
        return True


def with_removable(
    groups: Mapping[str, ChannelGroup], axes: Mapping[tuple[str, int], Axis], outputs: Mapping[str, int], flow: Flow
) -> dict[str, ChannelGroup]:
    """Return the groups, those marked that may all go; any of them may go together.

    Args:
        groups: by name, in the order of execution.
        axes: what the dimensions of the tensors are made up of.
        outputs: weights -> their dimension of output channels.
        flow: how data flows through the network.
    """
    constant: set[str] = set()
    found = dict(groups)
    for name, group in groups.items():
        readers = _readers(group, axes, outputs)
        if group.exact and readers and flow.carried(constant | readers):
            constant |= readers
            found[name] = replace(group, removable=True)
    return found


def _readers(group: ChannelGroup, axes: Mapping[tuple[str, int], Axis], outputs: Mapping[str, int]) -> set[str]:
    """Return the weights that read the group and nothing else; none at all where one reads something else too."""
    found = [slot for slot in group.slots if slot.tensor in outputs and slot.dim == 1 - outputs[slot.tensor]]
    alone = [slot.tensor for slot in found if list(axes[slot.tensor, slot.dim].parts) == [group.name]]
    if len(alone) < len(found) or any(axes[slot.tensor, slot.dim].fixed for slot in found):
        return set()
    return set(alone)
