"""Reading a node of an exported network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.fx import Node


def op_name(node: Node) -> str:
    """Return the operator's name, without its overload and the underscore of in-place forms."""
    target: Any = node.target
    name = str(target._schema.name.split("::")[-1]) if hasattr(target, "_schema") else str(target)
    return name if name.startswith("__") else name.rstrip("_")


def written_by(node: Node) -> Iterator[Node]:
    """Yield the nodes whose tensors a call writes into: the one that it is given, and what that one is a view of."""
    schema = getattr(node.target, "_schema", None)
    base = node.args[0] if schema is not None and schema.is_mutable and node.args else None
    while isinstance(base, Node):
        yield base
        returns = getattr(base.target, "_schema", None)
        view = returns is not None and any(one.alias_info is not None for one in returns.returns)
        base = base.args[0] if view and base.args else None


def module_of(node: Node) -> str:
    """Return the path of the innermost module that a node came from."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def shapes_of(node: Node) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the tensors that a node gives."""
    val = node.meta.get("val")
    found = val if isinstance(val, list | tuple) else [val]
    return tuple(tuple(int(size) for size in one.shape) for one in found if isinstance(one, torch.Tensor))


def arguments(node: Node, value_of: Callable[[Node], Any] = lambda node: node) -> dict[str, Any]:
    """Return a node's arguments by their names in the operator's schema, defaults filled in.

    Args:
        node: a call.
        value_of: what stands for the result of another node, wherever it is an argument.
    """

    def resolve(arg: Any) -> Any:
        if isinstance(arg, Node):
            return value_of(arg)
        if isinstance(arg, list | tuple):
            return [resolve(one) for one in arg]
        return arg

    schema = getattr(node.target, "_schema", None)
    declared = schema.arguments if schema else []
    defaults = {argument.name: argument.default_value for argument in declared if argument.has_default_value()}
    names = [argument.name for argument in declared] or [str(at) for at in range(len(node.args))]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return {name: resolve(given[name] if name in given else defaults[name]) for name in names}
