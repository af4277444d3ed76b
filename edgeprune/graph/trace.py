"""nn.Module + example input -> ChannelGraph.

The network is exported with `torch.export` (no data is computed), walked once, and every operator's rule says which
entries of which tensors are one channel. The connected components of these equalities are the channels.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node

from edgeprune.errors import InputError
from edgeprune.graph.channels import ChannelGraph, ChannelGroup, Locked, Slot
from edgeprune.graph.labels import Factor, Labels, Value
from edgeprune.graph.layers import Axis, Layer
from edgeprune.graph.rules import RULES, Call, opaque

_MULTIPLIES = ("conv", "linear", "matmul", "mm", "bmm")


def trace(model: nn.Module, example_inputs: Any, *, lock: tuple[str, ...] = ()) -> ChannelGraph:
    """Find the channel groups of a network.

    Args:
        model: any module that torch.export can trace in eval mode; it is left as it was.
        example_inputs: a tensor, or a tuple of positional arguments, of the batch size that will run (usually 1).
        lock: patterns (fnmatch) of module names whose output channels must all stay.

    Raises:
        InputError: the network can't be traced; the message shows what torch.export said.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    return _Walk(model, _export(model, inputs), inputs, lock).graph()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and back as it was at the end."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _export(model: nn.Module, inputs: tuple[Any, ...]) -> ExportedProgram:
    try:
        with eval_mode(model), torch.no_grad():
            return torch.export.export(model, inputs, strict=False)
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{type(model).__name__} can't be traced: {said[0]}",
            remedy="check that the example input fits the network; a part of it can be traced by itself",
        ) from error


class _Walk:
    """One pass over the exported graph."""

    def __init__(
        self, model: nn.Module, program: ExportedProgram, inputs: tuple[Any, ...], lock: tuple[str, ...]
    ) -> None:
        self.inputs = inputs
        self.lock = lock
        self.labels = Labels()
        self.values: dict[Node, Any] = {}
        self.tensors: dict[str, Value] = {}
        self.layers: list[tuple[str, str, list[np.ndarray | int], int]] = []
        self.foldable: list[tuple[str, str]] = []
        self.unknown: dict[str, list[str]] = {}
        self.order: dict[str, int] = {}
        self.program = program
        self.shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        signature = program.graph_signature
        self._names: Mapping[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._calls: dict[str, int] = {}

    def graph(self) -> ChannelGraph:
        nodes = list(self.program.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                self._output(node)
        self._find_foldable(nodes)
        self._lock_by_name()
        return _Assembly(self).graph()

    def _placeholder(self, node: Node) -> Value | None:
        tensor = node.meta.get("val")
        if not isinstance(tensor, torch.Tensor):
            return None
        shape = tuple(int(size) for size in tensor.shape)
        name = self._names.get(node.name)
        if name is None or name not in self.shapes:
            return Value(shape)
        factors = tuple(Factor((dim,), self.labels.fresh(size)) for dim, size in enumerate(shape))
        value = Value(shape, factors, name)
        self.tensors[name] = value
        return value

    def _call(self, node: Node) -> Any:
        if node.target is operator.getitem:
            parent = self.values[node.args[0]]  # type: ignore[index]
            return parent[node.args[1]] if isinstance(parent, list) else parent
        outputs = _shapes(node.meta.get("val"))
        if not outputs:
            return None
        call = Call(_op_name(node), self._arguments(node), outputs, self.labels)
        for value in call.tensors:
            if value.tensor is not None:
                self.order.setdefault(value.tensor, len(self.order))
        rule = RULES.get(call.op, opaque)
        if rule is opaque:
            self.unknown.setdefault(call.op, []).append(module_of(node))
        found = rule(call)
        self._note_layer(node, call)
        single = not isinstance(node.meta["val"], list | tuple)
        parts = [found] if isinstance(found, tuple) else list(found)
        parts += [()] * (len(outputs) - len(parts))
        values = [Value(shape, factors) for shape, factors in zip(outputs, parts, strict=True)]
        return values[0] if single else values

    def _arguments(self, node: Node) -> dict[str, Any]:
        def resolve(arg: Any) -> Any:
            if isinstance(arg, Node):
                return self.values.get(arg)
            if isinstance(arg, list | tuple):
                return [resolve(one) for one in arg]
            return arg

        schema = getattr(node.target, "_schema", None)
        names = [argument.name for argument in schema.arguments] if schema else []
        defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()} if schema else {}
        given = dict(zip(names, node.args, strict=False)) if names else dict(enumerate(node.args))
        return {str(k): resolve(v) for k, v in {**defaults, **given, **node.kwargs}.items()}

    def _note_layer(self, node: Node, call: Call) -> None:
        if not call.op.startswith(_MULTIPLIES):
            return
        shape = call.outputs[0]
        weight = call.args.get("weight")
        if isinstance(weight, Value) and weight.tensor is not None:
            name = weight.tensor.rpartition(".")[0] or weight.tensor
            if call.op == "linear":
                positions = int(np.prod(shape[:-1]))
            else:
                channel = len(shape) - (len(weight.shape) - 1)
                positions = int(np.prod(shape[channel + 1 :]) * np.prod(shape[:channel]) * np.prod(weight.shape[2:]))
                if "transpose" in call.op:
                    x = call.tensor("input")
                    positions = int(np.prod(x.shape[channel + 1 :]) * np.prod(x.shape[:channel]) * np.prod(weight.shape[2:]))
            axes: list[np.ndarray | int] = [weight.factors[0].ids, weight.factors[1].ids]
        else:
            name = module_of(node) or node.name
            contracted = call.tensor("input", "self").shape[-1]
            positions = int(np.prod(shape)) * int(contracted)
            axes = []
        count = self._calls[name] = self._calls.get(name, 0) + 1
        self.layers.append((name if count == 1 else f"{name}#{count}", call.op, axes, positions))

    def _output(self, node: Node) -> None:
        def lock(arg: Any) -> None:
            if isinstance(arg, Node) and isinstance(self.values.get(arg), Value):
                self.labels.lock_value(self.values[arg], "output of the network")
            elif isinstance(arg, list | tuple):
                for one in arg:
                    lock(one)
            elif isinstance(arg, dict):
                lock(list(arg.values()))

        lock(node.args)

    def _find_foldable(self, nodes: list[Node]) -> None:
        uses: dict[str, int] = {}
        for node in nodes:
            for arg in node.all_input_nodes:
                if arg.name in self._names:
                    uses[arg.name] = uses.get(arg.name, 0) + 1
        for node in nodes:
            if node.op != "call_function" or _op_name(node) != "batch_norm":
                continue
            before = node.args[0]
            if not isinstance(before, Node) or before.op != "call_function" or len(before.users) != 1:
                continue
            if not _op_name(before).startswith(("conv", "linear")):
                continue
            owners = [self._owner(before.args[1], uses), self._owner(node.args[3], uses)]
            if None not in owners:
                self.foldable.append((str(owners[0]), str(owners[1])))

    def _owner(self, arg: Any, uses: Mapping[str, int]) -> str | None:
        name = self._names.get(arg.name) if isinstance(arg, Node) else None
        return name.rpartition(".")[0] if name is not None and uses[arg.name] == 1 else None

    def _lock_by_name(self) -> None:
        from fnmatch import fnmatchcase

        for pattern in self.lock:
            hits = [name for name in self.tensors if fnmatchcase(name.rpartition(".")[0], pattern)]
            if not hits:
                raise InputError(f"no module matches lock pattern {pattern!r}", remedy="name modules as in layer1.*.conv2")
            for name in hits:
                self.labels.lock(self.tensors[name].factors[0].ids, f"locked by {pattern!r}")


class _Assembly:
    """Components of the labels -> groups, axes and layers."""

    def __init__(self, walk: _Walk) -> None:
        self.walk = walk
        self.component, self.locked, self.inexact = walk.labels.solve()
        self.slots = [
            (name, dim, self.component[factor.ids])
            for name in sorted(walk.tensors, key=lambda name: walk.order.get(name, len(walk.order)))
            for dim, factor in enumerate(walk.tensors[name].factors)
        ]

    def graph(self) -> ChannelGraph:
        signature, slot_count = self._signatures()
        open_ones = np.ones(len(signature), dtype=bool)
        open_ones[list(self.locked)] = False
        open_ones &= slot_count > 1
        groups: dict[str, ChannelGroup] = {}
        axes: dict[tuple[str, int], dict[str, int]] = {}
        for members in _same(signature, np.flatnonzero(open_ones)):
            group = self._group(members, groups)
            groups[group.name] = group
            for slot in group.slots:
                axes.setdefault((slot.tensor, slot.dim), {})[group.name] = slot.index.shape[1]
        made = {
            slot: Axis(
                self.walk.shapes[slot[0]][slot[1]] - sum(each * groups[name].channels for name, each in parts.items()),
                parts,
            )
            for slot, parts in axes.items()
        }
        layers = tuple(
            Layer(name, op, tuple(self._axis(ids, groups) for ids in ids_of), positions)
            for name, op, ids_of, positions in self.walk.layers
        )
        return ChannelGraph(
            groups, self._locked(), layers, made, self.walk.shapes, tuple(self.walk.foldable), self.walk.inputs
        )

    def _signatures(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each component a hash of the (slot, entries) it reaches into, and in how many slots it is."""
        count = int(self.component.max(initial=-1)) + 1
        signature = np.zeros(count, dtype=np.uint64)
        slot_count = np.zeros(count, dtype=np.int64)
        random = np.random.default_rng(0)
        for _, _, components in self.slots:
            found, entries = np.unique(components, return_counts=True)
            salt, step = random.integers(1, 2**63, 2, dtype=np.uint64)
            signature[found] += salt + entries.astype(np.uint64) * (step | np.uint64(1))
            slot_count[found] += 1
        return signature, slot_count

    def _group(self, members: np.ndarray, taken: Mapping[str, ChannelGroup]) -> ChannelGroup:
        slots = []
        first = members[0]
        position = {int(component): at for at, component in enumerate(members)}
        for name, dim, components in self.slots:
            if not (components == first).any():
                continue
            entries = np.flatnonzero(np.isin(components, members))
            owner = np.array([position[int(one)] for one in components[entries]])
            order = np.lexsort((entries, owner))
            slots.append(Slot(name, dim, entries[order].reshape(len(members), -1)))
        producers = [slot.module for slot in slots if slot.dim == 0 and self._produces(slot)]
        name = unique = (producers or [slots[0].module])[0] or slots[0].tensor
        while unique in taken:
            unique = f"{name}#{int(unique.rpartition('#')[2]) + 1 if '#' in unique else 2}"
        return ChannelGroup(
            name=unique,
            channels=len(members),
            slots=tuple(slots),
            kind="stream" if len(set(producers)) > 1 else "inner",
            exact=not np.isin(members, self.inexact).any(),
        )

    def _produces(self, slot: Slot) -> bool:
        """Whether the slot is the output dimension of a weight that mixes channels (not a norm, not depthwise)."""
        shape = self.walk.shapes[slot.tensor]
        return len(shape) > 1 and not (len(shape) > 2 and shape[1] == 1)

    def _axis(self, ids: np.ndarray | int, groups: Mapping[str, ChannelGroup]) -> Axis:
        if isinstance(ids, int):
            return Axis(fixed=ids)
        if not hasattr(self, "_group_of"):
            self._group_of = {}
            for group in groups.values():
                slot = group.slots[0]
                found = next(c for n, d, c in self.slots if (n, d) == (slot.tensor, slot.dim))
                for component in np.unique(found[slot.index]).tolist():
                    self._group_of[component] = group.name
        parts: dict[str, dict[int, int]] = {}
        fixed = 0
        for component, entries in zip(*np.unique(self.component[ids], return_counts=True), strict=True):
            name = self._group_of.get(int(component))
            if name is None:
                fixed += int(entries)
            else:
                parts.setdefault(name, {})[int(component)] = int(entries)
        return Axis(fixed, {name: next(iter(counts.values())) for name, counts in parts.items()})

    def _locked(self) -> tuple[Locked, ...]:
        found: dict[str, tuple[set[str], int]] = {}
        for component, reason in self.locked.items():
            modules, count = found.setdefault(reason, (set(), 0))
            found[reason] = (modules, count + 1)
        modules_of: dict[int, list[str]] = {}
        for name, dim, components in self.slots:
            if dim == 0:
                for component in np.unique(components).tolist():
                    if component in self.locked:
                        modules_of.setdefault(component, []).append(name.rpartition(".")[0])
        for component, reason in self.locked.items():
            found[reason][0].update(modules_of.get(component, []))
        return tuple(Locked(tuple(sorted(modules)), count, reason) for reason, (modules, count) in found.items())


def module_of(node: Node) -> str:
    """Return the path of the innermost module that a node came from."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def _op_name(node: Node) -> str:
    target = node.target
    name = target._schema.name.split("::")[-1] if hasattr(target, "_schema") else str(target)
    return name if name.startswith("__") else name.rstrip("_")


def _shapes(val: Any) -> tuple[tuple[int, ...], ...]:
    found = val if isinstance(val, list | tuple) else [val]
    return tuple(tuple(int(size) for size in one.shape) for one in found if isinstance(one, torch.Tensor))


def _same(signature: np.ndarray, members: np.ndarray) -> list[np.ndarray]:
    """Split `members` into those of equal signature, in the order of their first member."""
    _, first, inverse = np.unique(signature[members], return_index=True, return_inverse=True)
    return [members[inverse == which] for which in np.argsort(first)]
