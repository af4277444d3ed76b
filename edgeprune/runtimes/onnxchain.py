"""A chain of trivial nodes as ONNX, written without the onnx package: it shows what a runtime spends on any node.

Encoding and field numbers as in `onnxgraph.py`.
"""

from __future__ import annotations

_IR_VERSION, _OPSET = 8, 17
_FLOAT = 1
_VARINT, _BYTES = 0, 2


def chain_of(count: int) -> bytes:
    """Return `count` nodes `Sigmoid`, each reading what the one before wrote: one number in four dimensions.

    The input is `x0`, the output `x` and the count.
    """
    names = [f"x{at}" for at in range(count + 1)]
    nodes = [
        _field(1, before) + _field(2, after) + _field(3, after) + _field(4, "Sigmoid")
        for before, after in zip(names, names[1:])  # noqa: RUF007 - Python 3.8 has no pairwise
    ]
    graph = [_field(1, node) for node in nodes]
    graph += [_field(2, "chain"), _field(11, _port(names[0])), _field(12, _port(names[-1]))]
    return _number(1, _IR_VERSION) + _field(7, b"".join(graph)) + _field(8, _number(2, _OPSET))


def _port(name: str) -> bytes:
    """Return a ValueInfoProto: a float32 tensor of shape 1x1x1x1."""
    shape = _field(1, _number(1, 1)) * 4
    return _field(1, name) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, shape)))


def _field(number: int, content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
