"""Torch network -> ONNX: one file, static shape, named after the network's own modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import onnx
import torch
from torch import nn

from edgeprune.artifacts.tidy import drop_unused, pool_globally, without_constants
from edgeprune.errors import InputError
from edgeprune.graph.inputs import eval_mode
from edgeprune.muting import muted

OPSET = 18


def export_onnx(
    model: nn.Module, example_inputs: tuple[Any, ...] | Mapping[str, Any], *, simplify: bool = True
) -> onnx.ModelProto:
    """Export a network in eval mode with the static shapes of `example_inputs`.

    Every node is named after the module that it came from (`layer1.0.conv1`, `layer1.0.add`), and its first output
    after the node, since runtimes report one or the other. Initializers keep the names of the parameters.

    Args:
        model: the network, BatchNorm folded already; it is left as it was.
        example_inputs: positional arguments, or keyword arguments by name.
        simplify: run onnxsim.

    Raises:
        InputError: torch.onnx can't export the network.
    """
    try:
        with eval_mode(model), torch.no_grad(), muted():
            program = torch.onnx.export(
                model,
                () if isinstance(example_inputs, Mapping) else example_inputs,
                kwargs=dict(example_inputs) if isinstance(example_inputs, Mapping) else None,
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                external_data=False,
            )
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{type(model).__name__} can't be exported to ONNX: {said}",
            remedy="replace the operator that torch.onnx does not know",
        ) from error
    proto: onnx.ModelProto = program.model_proto  # type: ignore[union-attr]
    pool_globally(proto.graph)
    drop_unused(proto.graph)
    name_after_modules(proto.graph)
    _strip(proto)
    return _simplified(proto) if simplify else proto


def module_of_node(name: str) -> str:
    """Return a node's name without the number that tells repeated calls apart."""
    return name.partition("#")[0]


def _simplified(proto: onnx.ModelProto) -> onnx.ModelProto:
    # Its own check is by absolute differences; whoever ships the model compares it with torch anyway.
    result = without_constants(proto)
    name_after_modules(result.graph)
    return result


def name_after_modules(graph: onnx.GraphProto) -> None:
    """Name every node after its module, and its first output after the node, in place; every name is there once."""
    parameters = {one.name for one in graph.initializer}
    ends = {value.name for value in [*graph.input, *graph.output]}
    taken: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for node in graph.node:
        name = _module_name(node, parameters)
        node.name = _next_name(name, taken)
        while node.name in parameters:  # what was folded into a constant kept its name
            node.name = _next_name(name, taken)
        for at, value in enumerate(node.output):
            if value and value not in ends:
                renamed[value] = node.name if at == 0 else f"{node.name}:{at}"
    for node in graph.node:
        for names in (node.input, node.output):
            for at, value in enumerate(names):
                names[at] = renamed.get(value, value)
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)


def _next_name(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}#{taken[name]}"


def _module_name(node: onnx.NodeProto, parameters: set[str]) -> str:
    """Return the module that a node came from, followed by the operator where the module does several things.

    Equal initializers are merged by the exporter, so the name of a weight says less than the scope does.
    """
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), None)
    if scopes is None:
        return module_of_node(node.name)
    *modules, last = [str(one) for one in ast.literal_eval(scopes)]
    path = modules[-1] if modules else ""
    operator = re.sub(r"_\d+$", "", last) or node.op_type.lower()
    weight = next((name for name in node.input if name in parameters and name.endswith(".weight")), "")
    if path and (path.rpartition(".")[2] == operator or _is_leaf(node) or weight == f"{path}.weight"):
        return path
    return f"{path}.{operator}" if path else operator


def _is_leaf(node: onnx.NodeProto) -> bool:
    """Whether the node came from a module of torch.nn itself, so that the module's name says it all."""
    classes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.class_hierarchy"), "[]")
    found = [str(one) for one in ast.literal_eval(classes)]
    return len(found) > 1 and found[-2].startswith("torch.nn.modules.")


def _strip(proto: onnx.ModelProto) -> None:
    """Drop metadata that only the exporter needs; its stack traces hold paths of the machine."""
    for node in proto.graph.node:
        del node.metadata_props[:]
    for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
