"""Inputs and outputs of an ONNX file, read without the onnx package: for programs that take files only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Set, Tuple

from edgeprune.errors import InputError
from edgeprune.runtimes.onnxgraph import fields, submessage

_MODEL_GRAPH = 7
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_NAME, _TYPE = 1, 2
_TENSOR_NAME = 8
_TENSOR_TYPE = 1
_ELEMENT, _SHAPE = 1, 2
_DIMENSION, _VALUE = 1, 1
_NUMPY_NAMES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}


@dataclass(frozen=True)
class Port:
    """One input or output: its shape, and the numpy name of its type."""

    shape: Tuple[int, ...]
    numpy_type: str


def read_ports(onnx: bytes) -> Tuple[Dict[str, Port], Dict[str, Port]]:
    """Return inputs and outputs by name, in the network's order; stored constants are no inputs.

    Raises:
        InputError: no ONNX model, or a shape that is not fixed.
    """
    ports: Dict[int, List[Tuple[str, Port]]] = {_GRAPH_INPUT: [], _GRAPH_OUTPUT: []}
    stored: Set[str] = set()
    try:
        for number, graph in fields(memoryview(onnx)):
            for field, value in fields(submessage(graph)) if number == _MODEL_GRAPH else ():
                if field in ports:
                    ports[field].append(_port(submessage(value)))
                elif field == _GRAPH_INITIALIZER:
                    texts = [one for part, one in fields(submessage(value)) if part == _TENSOR_NAME]
                    stored.update(str(submessage(text), "utf-8") for text in texts)
    except (IndexError, ValueError) as error:
        raise InputError(f"not an ONNX model: {error}", remedy="export it again") from None
    inputs = {name: port for name, port in ports[_GRAPH_INPUT] if name not in stored}
    return inputs, dict(ports[_GRAPH_OUTPUT])


def _port(info: memoryview) -> Tuple[str, Port]:
    name, element, shape = "", 0, []
    for field, value in fields(info):
        if field == _NAME:
            name = str(submessage(value), "utf-8")
        elif field == _TYPE:
            for kind, tensor in fields(submessage(value)):
                for part, one in fields(submessage(tensor)) if kind == _TENSOR_TYPE else ():
                    if part == _ELEMENT:
                        element = one if isinstance(one, int) else 0
                    elif part == _SHAPE:
                        shape = [_size(submessage(size)) for at, size in fields(submessage(one)) if at == _DIMENSION]
    if not all(shape):
        raise InputError(f"input {name!r} has no fixed shape: {shape}", remedy="export the model with static shapes")
    return name, Port(tuple(shape), _NUMPY_NAMES.get(element, f"type {element}"))


def _size(dimension: memoryview) -> int:
    """Return a dimension's size, 0 where it has a name instead."""
    return next((int(value) for field, value in fields(dimension) if field == _VALUE and isinstance(value, int)), 0)
