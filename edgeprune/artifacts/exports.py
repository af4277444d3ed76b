"""Exports that are kept: what torch takes seconds for is read in no time, as long as the network computes the same.

Latency does not depend on the weights, so they are left out of the file, and the network's sizes are what they are told
by: a network that was trained further, or drawn from another seed, is the same one here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgeprune.graph.channels import ChannelGraph
from edgeprune.records import write_bytes

_PACKAGES = ("edgeprune", "torch", "onnx", "onnxscript")


def kept_export(folder: Path, graph: ChannelGraph, export: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """Return what `export` gives, from the folder if the same was exported before; weights are random numbers then.

    Args:
        folder: of the kept exports; made where it is not there.
        graph: what was found out about the network.
        export: gives the network as ONNX, its parameters under their own names.
    """
    told = [graph.calls, graph.foldable, [version(name) for name in _PACKAGES]]
    path = folder / f"{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.onnx"
    with suppress(OSError, DecodeError):
        return _filled(onnx.load_model_from_string(path.read_bytes()))
    proto = export()
    write_bytes(path, _emptied(proto, graph).SerializeToString())
    return proto


def _emptied(proto: onnx.ModelProto, graph: ChannelGraph) -> onnx.ModelProto:
    """Return a copy without the entries of the network's parameters."""
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    del copied.graph.initializer[:]
    for one in proto.graph.initializer:
        if one.name in graph.shapes and one.data_type == onnx.TensorProto.FLOAT:
            one = onnx.TensorProto(name=one.name, data_type=one.data_type, dims=one.dims)
        copied.graph.initializer.append(one)
    return copied


def _filled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give parameters without entries random ones, of sizes with which activations neither grow nor fade."""
    random = np.random.default_rng(0)
    for one in proto.graph.initializer:
        shape = tuple(one.dims)
        if one.data_type != onnx.TensorProto.FLOAT or one.raw_data or one.float_data or not np.prod(shape):
            continue
        reach = (6 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        entries = random.uniform(-reach, reach, shape).astype(np.float32)
        one.CopyFrom(numpy_helper.from_array(entries, one.name))
    return proto
