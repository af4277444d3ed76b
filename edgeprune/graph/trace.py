"""nn.Module + example input -> ChannelGraph.

The network's operators are recorded in one run without data, walked once, and every operator's rule says which entries
of which tensors are one channel. The connected components of these equalities are the channels.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.fx import Node

from edgeprune.errors import InputError
from edgeprune.graph.assembly import Assembly
from edgeprune.graph.branches import Flow, with_removable
from edgeprune.graph.call import Call, Factors, Rule
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.folding import find_foldable
from edgeprune.graph.inputs import as_inputs, captured_inputs, find_module
from edgeprune.graph.labels import Factor, Labels, Value
from edgeprune.graph.layers import Layer
from edgeprune.graph.nodes import arguments, module_of, op_name, shapes_of
from edgeprune.graph.pointwise import opaque
from edgeprune.graph.record import Recording, record
from edgeprune.graph.regions import Region, find_regions
from edgeprune.graph.rules import MODULE_RULES, RULES
from edgeprune.graph.sizes import SizeAttribute

_MULTIPLIES = ("conv", "linear", "matmul", "mm", "bmm")


def trace(
    model: nn.Module,
    example_inputs: Any,
    *,
    lock: tuple[str, ...] | str = (),
    submodule: str = "",
    allow_inexact: bool = False,
) -> ChannelGraph:
    """Find the channel groups of a network.

    >>> import torch, edgeprune
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1))
    >>> graph = edgeprune.trace(network, torch.zeros(1, 3, 5, 5))
    >>> {group.name: group.channels for group in graph}
    {'0': 8}

    Args:
        model: any module whose forward pass in eval mode does the same whatever is in its inputs; it is left as it was.
        example_inputs: a tensor, a tuple of positional arguments or a dict of named ones, of the batch size that will
            run (usually 1).
        lock: patterns (fnmatch) of names of modules or groups whose output channels must all stay, or one of them;
            `layer1` stands for everything inside it too.
        submodule: trace this part alone, with the inputs that it gets when the network runs on `example_inputs`; what
            it hands to the rest stays as it is. For networks whose post-processing depends on the data (detection).
        allow_inexact: plans may also cut channels that a norm or a softmax spans: the network without them differs
            from the one with them zeroed, and has to be trained.

    Raises:
        InputError: the network can't be traced, with what it said; no such submodule; a lock matches nothing.
    """
    inputs = as_inputs(example_inputs)
    part = model
    if submodule:
        part = find_module(model, submodule)
        inputs = captured_inputs(model, part, inputs)
    graph = _Walk(part, record(part, inputs, f"{submodule}." if submodule else ""), inputs, submodule).graph()
    patterns = (lock,) if isinstance(lock, str) else lock
    return replace(_lock_matching(graph, model, patterns), allow_inexact=allow_inexact)


def _lock_matching(graph: ChannelGraph, model: nn.Module, patterns: tuple[str, ...]) -> ChannelGraph:
    for pattern in patterns:

        def matches(name: str, pattern: str = pattern) -> bool:
            return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")

        found = [
            group.name
            for group in graph
            if matches(group.name)
            or any(matches(slot.module) and slot.dim == graph.outputs.get(slot.tensor, 0) for slot in group.slots)
        ]
        if not found and not any(matches(path) for path, _ in model.named_modules()):
            raise InputError(f"no module matches lock pattern {pattern!r}", remedy="name modules as in layer1.*.conv2")
        graph = graph.lock(found, f"locked by {pattern!r}")
    return graph


class _Walk:
    """One pass over the recorded calls."""

    def __init__(
        self,
        model: nn.Module,
        recording: Recording,
        inputs: tuple[Any, ...] | Mapping[str, Any],
        submodule: str,
    ) -> None:
        self.model = model
        self.recording = recording
        self.inputs = inputs
        self.submodule = submodule
        self.labels = Labels()
        self.values: dict[Node, Any] = {}
        self.tensors: dict[str, Value] = {}
        self.order: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self.depthwise: set[str] = set()
        self.linear: set[str] = set()
        self.layers: list[tuple[str, str, list[np.ndarray], int]] = []
        self.weights: dict[Node, str] = {}
        self._prefix = f"{submodule}." if submodule else ""
        state = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if hasattr(tensor, "shape")}
        self.shapes = {self._prefix + name: tuple(tensor.shape) for name, tensor in state.items()}
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        self.buffers = frozenset(self._prefix + name for name in state if name not in parameters)
        names_of: dict[int, list[str]] = {}
        for name, tensor in state.items():
            names_of.setdefault(id(tensor), []).append(self._prefix + name)
        self._alike = {name: names for names in names_of.values() for name in names}
        self._names = {node: self._prefix + name for node, name in recording.names.items()}
        self._calls: dict[str, int] = {}

    def graph(self) -> ChannelGraph:
        nodes = self.recording.nodes
        regions = find_regions(nodes, self.model, MODULE_RULES)
        for node in nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node in regions:
                self._follow(regions[node], node)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                self._lock_outputs(node.args)
        traced = sorted(self.tensors, key=lambda name: self.order.get(name, len(self.order)))
        places = {
            (name, dim): factor.ids
            for one in traced
            for name in self._alike[one]
            for dim, factor in enumerate(self.tensors[one].factors)
        }
        found = Assembly(self.labels.solve(), places, self.outputs, self.depthwise, self.linear)
        return ChannelGraph(
            groups=with_removable(found.groups, found.axes, self.outputs, self._flow(nodes)),
            locked=found.locks(),
            layers=tuple(
                Layer(name, op, tuple(found.axis(ids) for ids in axes), positions)
                for name, op, axes, positions in self.layers
            ),
            axes=found.axes,
            shapes=self.shapes,
            foldable=find_foldable(nodes, self._names),
            example_inputs=self.inputs,
            outputs=self.outputs,
            aliases=frozenset(name for names in self._alike.values() for name in names[1:]),
            buffers=self.buffers,
            submodule=self.submodule,
            attributes={
                key: SizeAttribute(axis, each)
                for key, (each, ids) in self.labels.attributes().items()
                if (axis := found.axis(ids)).parts
            },
            calls=self.recording.digest(),
        )

    def _flow(self, nodes: list[Node]) -> Flow:
        ops = {node: op_name(node) for node in nodes if node.op == "call_function"}
        return Flow(nodes, self.recording.inputs, self.weights, ops)

    def _placeholder(self, node: Node) -> Value | None:
        tensor = node.meta.get("val")
        if not isinstance(tensor, torch.Tensor):
            return None
        shape = tuple(int(size) for size in tensor.shape)
        name = self._names.get(node)
        if name is None or name not in self.shapes:
            return Value(shape)
        name = self._alike[name][0]
        if name not in self.tensors:
            factors = tuple(Factor((dim,), self.labels.fresh(size)) for dim, size in enumerate(shape))
            self.tensors[name] = Value(shape, factors, name)
        return self.tensors[name]

    def _call(self, node: Node) -> Any:
        if node.target is operator.getitem:
            parent: Any = self.values[node.args[0]]  # type: ignore[index]
            return parent[cast(int, node.args[1])] if isinstance(parent, list) else parent
        given = arguments(node, self.values.get)
        integers = node.meta.get("integers", ())
        call = Call(op_name(node), given, shapes_of(node), self.labels, self._prefix + module_of(node), integers)
        if not call.outputs:
            self._note_order(call)
            return None  # an assertion, a size
        values = self._results(call, RULES.get(call.op))
        self._note_layer(node, call)
        return values if isinstance(node.meta["val"], list | tuple) else values[0]

    def _follow(self, region: Region, node: Node) -> None:
        """Apply the rule of a module once its last node is reached."""
        if node is not region.nodes[-1]:
            return
        given: dict[str, Any] = {}
        for one in region.inputs:
            name = self._names.get(one, "").removeprefix(f"{self._prefix}{region.path}.")
            given[name or ("input" if "input" not in given else f"input_{len(given)}")] = self.values.get(one)
        shapes = [shapes_of(one) for one in region.results]
        outputs = tuple(shape[0] for shape in shapes if len(shape) == 1)
        call = Call(type(self.model.get_submodule(region.path)).__name__, given, outputs, self.labels, region.path)
        plain = len(outputs) == len(shapes)
        self.values.update(zip(region.results, self._results(call, region.rule if plain else None), strict=False))

    def _results(self, call: Call, rule: Rule | None) -> list[Value]:
        self._note_order(call)
        found = self._apply(call, rule)
        parts = [found] if isinstance(found, tuple) else list(found)
        parts += [()] * (len(call.outputs) - len(parts))
        return [Value(shape, factors) for shape, factors in zip(call.outputs, parts, strict=True)]

    def _note_order(self, call: Call) -> None:
        for value in call.tensors:
            if value.tensor is not None:
                self.order.setdefault(value.tensor, len(self.order))

    def _apply(self, call: Call, rule: Rule | None) -> Factors | list[Factors]:
        if rule is None:
            self._lock_nested(call.args)
            return opaque(call)
        try:
            return rule(call)
        # A call in a form that its rule was not written for. What the rule has tied by then only binds more.
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError):
            return opaque(call)

    def _lock_nested(self, arg: Any) -> None:
        """Lock the tensors in lists within lists, which no rule looks at."""
        if isinstance(arg, Value):
            self.labels.lock_value(arg, "handed to an operator without a channel rule")
        for one in arg.values() if isinstance(arg, dict) else arg if isinstance(arg, list) else []:
            if isinstance(one, list | dict):
                self._lock_nested(one)

    def _note_layer(self, node: Node, call: Call) -> None:
        """Note the operator's multiply-accumulates, and which weight makes which channels."""
        if not call.op.startswith(_MULTIPLIES):
            return
        shape, weight, axes = call.outputs[0], call.optional("weight"), []
        name = call.where or node.name
        if weight is None:
            positions = int(np.prod(shape)) * call.x.shape[-1]
        else:
            # Every entry of the weight meets each position of the output, or where transposed of the input, once.
            transposed = "transpose" in call.op
            met = call.x.shape if transposed else shape
            kernel = weight.shape[2:]
            channel = len(shape) - len(kernel) - 1
            positions = int(np.prod(met[:channel]) * np.prod(met[channel + 1 :]) * np.prod(kernel))
            if weight.tensor is None:
                positions *= int(np.prod(weight.shape[:2]))
            else:
                name = weight.tensor.rpartition(".")[0] or weight.tensor
                axes = [factor.ids for factor in weight.factors[:2]]
                self.outputs[weight.tensor] = int(transposed)
                self.weights[node] = weight.tensor
                if weight.shape[1] == 1 and int(call.args.get("groups", 1)) > 1:
                    self.depthwise.add(weight.tensor)
                if call.op == "linear":
                    self.linear.add(weight.tensor)
        count = self._calls[name] = self._calls.get(name, 0) + 1
        self.layers.append((name if count == 1 else f"{name}#{count}", call.op, axes, positions))

    def _lock_outputs(self, arg: Any) -> None:
        value = self.values.get(arg) if isinstance(arg, Node) else None
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Value):
                self.labels.lock_value(one, "output of the network")
        for one in arg.values() if isinstance(arg, dict) else arg if isinstance(arg, list | tuple) else []:
            self._lock_outputs(one)
