"""Where a BatchNorm may be folded into the layer before it, or into the one behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch.fx import Node

from edgeprune.graph.nodes import arguments, op_name


def find_foldable(nodes: Sequence[Node], names: Mapping[Node, str]) -> tuple[tuple[str, str], ...]:
    """Return pairs of modules, the first of which feeds the second alone; one of the two is a BatchNorm.

    Args:
        nodes: in the order of execution.
        names: the placeholders that are parameters and buffers -> their names.
    """
    uses: dict[Node, int] = {}
    for node in nodes:
        for arg in node.all_input_nodes:
            if arg in names:
                uses[arg] = uses.get(arg, 0) + 1

    def owner(arg: object) -> str:
        """Return the module of a tensor that is used once; else nothing."""
        name = names.get(arg) if isinstance(arg, Node) else None
        return name.rpartition(".")[0] if name is not None and isinstance(arg, Node) and uses[arg] == 1 else ""

    found: list[tuple[str, str]] = []
    folded: set[str] = set()
    for node in nodes:
        before = node.args[0] if node.op == "call_function" and node.args else None
        if not isinstance(before, Node) or before.op != "call_function" or len(before.users) != 1:
            continue
        if op_name(node) == "batch_norm" and (op_name(before).startswith("conv") or _of_rows(before)):
            pair = owner(before.args[1]), owner(node.args[3])
            norm = pair[1]
        elif op_name(before) == "batch_norm" and _takes_scale(node):
            pair = owner(before.args[3]), owner(node.args[1])
            norm = pair[0]
        else:
            continue
        if all(pair) and norm not in folded:
            folded.add(norm)
            found.append(pair)
    return tuple(found)


def _of_rows(node: Node) -> bool:
    """Whether it is a linear layer whose outputs are what a BatchNorm takes for channels: of tokens, these are."""
    return op_name(node) == "linear" and len(node.meta["val"].shape) == 2


def _takes_scale(node: Node) -> bool:
    """Whether a scale and a shift of the channels can be put into the layer: nothing is padded in between."""
    if _of_rows(node):
        return True
    if not op_name(node).startswith("conv") or "transpose" in op_name(node):
        return False
    padding = arguments(node).get("padding", "same")
    return padding == "valid" or (isinstance(padding, list | tuple) and not any(padding))
