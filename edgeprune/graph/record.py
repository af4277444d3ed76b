"""One run of a network on tensors without data, written down as a graph of operator calls.

What `torch.export` would give, in a tenth of its time: a copy of the network runs once on meta tensors, which have a
shape and no entries, and every operator is noted as it is called. In inference mode composite operators (linear,
attention, batch_norm) arrive whole. Tensors that the code makes from numbers are real, so that it may look at them.
"""

from __future__ import annotations

import hashlib
import operator
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.fx.node import map_arg
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from edgeprune.errors import InputError
from edgeprune.graph.copies import copied
from edgeprune.graph.inputs import call_with
from edgeprune.graph.sizes import SizesGiven, with_origins

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
_TOLD = (Node, *_PLAIN, torch.layout, torch.memory_format)
_AS_INPUT = (torch.ops.aten.batch_norm.default, torch.ops.aten.layer_norm.default, torch.ops.aten.group_norm.default)
"""Operators whose output is like their input, which torch works out slowly."""


@dataclass(frozen=True, eq=False)
class Recording:
    """The calls of one run.

    Attributes:
        nodes: in the order of execution; `meta["val"]` is what a node gives, `meta["nn_module_stack"]` says where,
            `meta["integers"]` what numbers the code gave.
        names: the nodes that are parameters and buffers -> their names.
        inputs: the nodes that are the network's inputs.
    """

    nodes: list[Node]
    names: Mapping[Node, str]
    inputs: list[Node]

    def digest(self) -> str:
        """Return a SHA-256 over all that was called: operators, arguments, sizes and modules; weights do not count.

        Empty where there is something that can't be told by a text that is the same in every run.
        """
        number = {node: at for at, node in enumerate(self.nodes)}
        digest = hashlib.sha256()
        for node in self.nodes:
            leaves = tree_leaves((node.args, node.kwargs))
            values = [_told(node, one) for one in tree_leaves(node.meta.get("val"))]
            if None in values or not all(isinstance(leaf, _TOLD) for leaf in leaves):
                return ""
            stack = [(path, kind.__module__, kind.__qualname__) for path, kind in _stack(node)]
            arguments = map_arg((node.args, node.kwargs), lambda one: f"%{number[one]}")
            digest.update(repr([str(node.target), self.names.get(node), stack, arguments, values]).encode())
        return digest.hexdigest()


def record(model: nn.Module, inputs: tuple[Any, ...] | Mapping[str, Any], prefix: str = "") -> Recording:
    """Run `model` in eval mode without data and return its calls; it is left as it was.

    Args:
        model: a network.
        inputs: what to call it with.
        prefix: what comes before the names of its modules in the network that it is a part of.

    Raises:
        InputError: it can't be copied, or fails on tensors without data, with what it said.
    """
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    empty = {name: _without_data(tensor) for name, tensor in tensors.items()}
    part = copied(model, empty).eval()
    with_origins(part, prefix)
    recorder = _Recorder({id(tensor): (name, tensor) for name, tensor in empty.items()})
    try:
        recorder.follow(part)
        given = tree_map(recorder.given, inputs)
        with torch.inference_mode(), _plain_attention(), recorder.sizes, recorder:
            outputs = call_with(part, given)
        recorder.end(outputs)
    except Exception as error:
        raise _untraceable(model, error) from error
    return Recording(list(recorder.graph.nodes), recorder.names, recorder.inputs)


def _untraceable(model: nn.Module, error: Exception) -> InputError:
    """Return what to say of a network that failed without data: in which line of whose code, and why."""
    own = [str(Path(torch.__file__).parent), str(Path(__file__).parents[1])]
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(tuple(own))]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    part = "trace a part of the network alone with --submodule (submodule= in Python)"
    if "meta" in said:  # torch's word for tensors without data
        why = f"{where or 'it'} asks what is in a tensor, so that what it does depends on its input"
        return InputError(
            f"{type(model).__name__} can't be traced: {why}", remedy=f"do the same by torch.where; or {part}"
        )
    return InputError(
        f"{type(model).__name__} can't be traced: {where}{': ' * bool(where)}{said}",
        remedy=f"check that the example input fits the network; or {part}",
    )


def _without_data(tensor: Tensor) -> Tensor:
    data = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from running encoder layers as one fused operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operator that is called while it is active.

    Args:
        named: id of each parameter and buffer -> its name and itself.
    """

    def __init__(self, named: Mapping[int, tuple[str, Tensor]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self.names: dict[Node, str] = {}
        self.inputs: list[Node] = []
        self.sizes = SizesGiven()
        self._named = named
        self._nodes: dict[int, Node] = {}
        self._alive: list[Tensor] = []  # an id is only good for as long as its tensor lives
        self._stack: dict[str, tuple[str, type]] = {}
        self._calls = 0

    def follow(self, model: nn.Module) -> None:
        """Know from now on which module is running."""
        for path, module in model.named_modules():

            def enter(module: nn.Module, _: Any, path: str = path) -> None:
                self._calls += 1
                self._stack = {**self._stack, f"{path}@{self._calls}": (path, type(module))}

            def leave(*_: Any) -> None:
                self._stack = dict(list(self._stack.items())[:-1])

            module.register_forward_pre_hook(enter, prepend=True)
            module.register_forward_hook(leave, always_call=True)

    def given(self, value: Any) -> Any:
        """Return what stands for an input of the network."""
        if not isinstance(value, Tensor):
            return value
        tensor = _without_data(value.detach())
        self.inputs.append(self._placeholder(tensor, "input"))
        return tensor

    def end(self, outputs: Any) -> None:
        """Note what comes out."""
        leaves = tree_leaves(outputs)
        for leaf in leaves:
            if not isinstance(leaf, (Tensor, *_PLAIN)):
                raise TypeError(f"it returns a {type(leaf).__name__}, which is not a tensor, list or dict of tensors")
        self.graph.output([self._node(leaf) for leaf in leaves if isinstance(leaf, Tensor)])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        node = self.graph.call_function(func, tuple(map(self._as_nodes, args)), self._as_nodes(kwargs))
        node.meta.update(nn_module_stack=self._stack, integers=self.sizes.now)
        result = _computed(func, args, kwargs)
        node.meta["val"] = result
        if isinstance(result, Tensor):
            self._keep(result, node)
        elif isinstance(result, list | tuple):
            for at, one in enumerate(one for one in result if isinstance(one, Tensor)):
                self._keep(one, self._part(node, at, one))
        return result

    def _part(self, node: Node, at: int, tensor: Tensor) -> Node:
        part = self.graph.call_function(operator.getitem, (node, at))
        part.meta.update(val=tensor, nn_module_stack=self._stack)
        return part

    def _keep(self, tensor: Tensor, node: Node) -> None:
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)

    def _placeholder(self, tensor: Tensor, name: str) -> Node:
        node = self.graph.placeholder(name)
        node.meta["val"] = tensor
        self._keep(tensor, node)
        return node

    def _node(self, tensor: Tensor) -> Node:
        found = self._nodes.get(id(tensor))
        if found is None:
            name, _ = self._named.get(id(tensor), ("", None))
            found = self._placeholder(tensor, "parameter" if name else "constant")
            if name:
                self.names[found] = name
        return found

    def _as_nodes(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, list | tuple):
            return [self._as_nodes(one) for one in value]
        return {name: self._as_nodes(one) for name, one in value.items()} if isinstance(value, dict) else value


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator, without data where one of its tensors has none; in place is in place."""
    if func in _AS_INPUT:
        return torch.empty(args[0].shape, dtype=args[0].dtype, device="meta")
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    mixed = any(one.is_meta for one in tensors) and not all(one.is_meta for one in tensors)
    if not tensors or not mixed:
        return func(*args, **kwargs)
    result = func(*tree_map(_on_meta, args), **tree_map(_on_meta, kwargs))
    return args[0] if func._schema.is_mutable else result


def _stack(node: Node) -> list[tuple[str, type]]:
    return list(node.meta.get("nn_module_stack", {}).values())


def _told(node: Node, value: Any) -> str | None:
    """Return type and shape of what a node gives, and the entries of what nothing has computed; None if it has none."""
    if not isinstance(value, Tensor):
        return repr(value)
    entries = b""
    if node.op == "placeholder" and not value.is_meta:
        if value.layout != torch.strided or value.is_quantized:
            return None
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        entries = plain.flatten().view(torch.uint8).numpy().tobytes()
    return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(entries).hexdigest()}"


def _on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
