"""The nodes of an ONNX file, read without the onnx package, and which of them a compiled primitive computes.

A device has its runtime and numpy, not onnx. Only names are needed there, so this reads just the protobuf fields that
hold them (https://protobuf.dev/programming-guides/encoding; field numbers from onnx.proto) and passes over the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Sequence, Union

from edgeprune.errors import InputError

_MODEL_GRAPH = 7
_GRAPH_NODE = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE = 1, 2, 3, 4
_MOVES = frozenset(
    [
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class GraphNode:
    """One node: its name, operator, and the names of the tensors it reads and writes."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Primitive:
    """One step that a runtime executes, as far as it says.

    Attributes:
        name: its own name.
        op_type: its operator, in ONNX's words where it has one there.
        outputs: tensors that it writes.
        nodes: ONNX nodes that the runtime says it computes.
        inputs: tensors that it reads.
    """

    name: str
    op_type: str
    outputs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


def read_nodes(onnx: bytes) -> list[GraphNode]:
    """Return the nodes of the main graph, in file order (topological by the ONNX rules).

    Raises:
        InputError: the bytes are no ONNX model.
    """
    try:
        graphs = [value for field, value in fields(memoryview(onnx)) if field == _MODEL_GRAPH]
        nodes = [_node(value) for graph in graphs for field, value in fields(submessage(graph)) if field == _GRAPH_NODE]
    except (IndexError, ValueError) as error:
        raise InputError(f"not an ONNX model: {error}", remedy="export it again") from None
    if not nodes:
        raise InputError(f"not an ONNX model: no node in {len(onnx)} bytes", remedy="export it again")
    return nodes


def attribute(nodes: Sequence[GraphNode], primitives: Sequence[Primitive]) -> list[tuple[str, ...]]:
    """Say for each primitive which ONNX nodes it computes, from names alone.

    A runtime that fuses keeps one name of those fused: that of the first node (a convolution), or of the tensor that
    comes out at the end (after its activation). From these anchors the rest follows:
      1. a primitive whose anchor is of another operator than itself also has what leads to the anchor, back to the
         first node of its own operator (a `Conv` named after a Relu has the Conv before that Relu);
      2. any other node belongs to the primitive that computes its input, and of several to the one that runs last: an
         addition is fused into the branch that finishes second. What only moves data (a Concat) takes nothing in;
      3. a node without such an input (a Pad fused into the convolution behind it) belongs to what reads it.

    Args:
        nodes: the network that was given to the runtime.
        primitives: what it executes, in execution order, with every node that the runtime itself names.

    Returns:
        Names of nodes for each primitive, in file order; empty where the runtime put the primitive in by itself.
        A node that the runtime names in several primitives is in all of them, any other in exactly one, and in none
        when it leads to nothing that is executed (what was folded into a constant).
    """
    owner = _anchors(nodes, primitives)
    producer = {tensor: index for index, node in enumerate(nodes) for tensor in node.outputs if tensor}
    before = [[producer[tensor] for tensor in node.inputs if tensor in producer] for node in nodes]
    _absorb(nodes, primitives, owner, before)
    for index in range(len(nodes)):
        claimed = [owner[source] for source in before[index] if source in owner and nodes[source].op_type not in _MOVES]
        if index not in owner and claimed:
            owner[index] = max(claimed)
    for index in reversed(range(len(nodes))):
        for source in before[index]:
            if index in owner and source not in owner:
                owner[source] = owner[index]
    found: list[dict[str, None]] = [dict.fromkeys(primitive.nodes) for primitive in primitives]
    for index in sorted(owner):
        found[owner[index]].setdefault(nodes[index].name)
    return [tuple(names) for names in found]


def behind(primitives: Sequence[Primitive], found: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return for each primitive that the runtime put in by itself which nodes' output it works on; empty for others.

    Args:
        primitives: what the runtime executes, with what each reads and writes.
        found: the nodes of each, as `attribute` returned them.
    """
    writer = {tensor: at for at, primitive in enumerate(primitives) for tensor in primitive.outputs}
    served: list[tuple[str, ...]] = []
    for at, primitive in enumerate(primitives):
        source = next((writer[tensor] for tensor in primitive.inputs if writer.get(tensor, at) < at), None)
        none = found[at] or source is None
        served.append(() if none or source is None else found[source] or served[source])
    return served


def _anchors(nodes: Sequence[GraphNode], primitives: Sequence[Primitive]) -> dict[int, int]:
    """Return node index -> primitive index where a name says so: the runtime's word, then names, then tensors."""
    by_name = {name: index for index, node in enumerate(nodes) for name in (*node.outputs, node.name) if name}
    owner: dict[int, int] = {}
    for names_of in (_told_names, _own_names, _output_names):
        for position, primitive in enumerate(primitives):
            for name in names_of(primitive):
                if name in by_name:
                    owner.setdefault(by_name[name], position)
    return owner


def _told_names(primitive: Primitive) -> Iterator[str]:
    yield from primitive.nodes


def _own_names(primitive: Primitive) -> Iterator[str]:
    name = primitive.name
    yield name
    # ONNX Runtime adds these when it lays a node out in blocks, and when it does so to a BatchNormalization.
    for suffix in ("_nchwc", "_bn"):
        if name.endswith(suffix):
            name = name[: -len(suffix)]
            yield name


def _output_names(primitive: Primitive) -> Iterator[str]:
    # A change of layout writes a tensor that another primitive computed.
    if not primitive.op_type.startswith("Reorder"):
        yield from primitive.outputs


def _absorb(
    nodes: Sequence[GraphNode], primitives: Sequence[Primitive], owner: dict[int, int], before: list[list[int]]
) -> None:
    """Rule 1 of `attribute`, in place on `owner`."""
    for anchor, position in list(owner.items()):
        op_type = primitives[position].op_type.replace("Fused", "")
        if nodes[anchor].op_type == op_type or primitives[position].nodes:
            continue
        waiting = list(before[anchor])
        while waiting:
            index = waiting.pop()
            if index in owner:
                continue
            owner[index] = position
            if nodes[index].op_type != op_type:
                waiting += before[index]


def _node(message: Union[int, memoryview]) -> GraphNode:
    texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_NAME: [], _NODE_OP_TYPE: []}
    for field, value in fields(submessage(message)):
        if field in texts:
            texts[field].append(str(submessage(value), "utf-8"))
    outputs = tuple(texts[_NODE_OUTPUT])
    name = "".join(texts[_NODE_NAME][-1:]) or "".join(outputs[:1])
    return GraphNode(name, "".join(texts[_NODE_OP_TYPE][-1:]), tuple(texts[_NODE_INPUT]), outputs)


def submessage(value: Union[int, memoryview]) -> memoryview:
    """Return the bytes of a field that must hold some.

    Raises:
        ValueError: it holds a number.
    """
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def fields(message: memoryview) -> Iterator[tuple[int, Union[int, memoryview]]]:
    """Yield (field number, number or bytes) of one protobuf message.

    Raises:
        ValueError: it is none.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, position = _varint(message, position)
            yield field, number
            continue
        if wire == _BYTES:
            size, position = _varint(message, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + size > len(message):
            raise ValueError(f"cut off at byte {len(message)}")
        yield field, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
