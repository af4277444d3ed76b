"""Exports that are kept: what torch takes seconds for is read in no time, as long as the network computes the same.

Latency does not depend on the values of weights, so these are left out of the file, and a network is recognised by its
operations alone: trained further, or initialised from another seed, it is the same network here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from edgeprune.artifacts.engine_nodes import TRANSPOSED, parameter_of
from edgeprune.artifacts.tidy import without_weights
from edgeprune.graph.channels import ChannelGraph
from edgeprune.records import write_bytes

_PACKAGES = ("torch", "onnx", "onnxscript")
_MOST = 200
"""More files than this are not kept; each has some ten to some hundred kilobytes."""


def kept_export(
    folder: Path, graph: ChannelGraph, model: nn.Module, export: Callable[[], onnx.ModelProto]
) -> onnx.ModelProto:
    """Return what `export` gives, from the folder if the same was exported before.

    Args:
        folder: of the kept exports; made where it is not there. Where it can't be written, nothing is kept.
        graph: what was found out about the network; one that can't be told from others by its calls is not kept.
        model: the network.
        export: gives it as ONNX with random weights, its parameters under their own names.
    """
    if not graph.calls:
        return export()
    told = [graph.calls, graph.foldable, list(_whole_numbers(model)), [version(name) for name in _PACKAGES], _code()]
    path = folder / f"{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.onnx"
    with suppress(OSError, DecodeError):
        kept = onnx.load_model_from_string(path.read_bytes())
        if kept.graph.node:
            return _filled(kept)
    proto = export()
    with suppress(OSError):
        write_bytes(path, _emptied(proto, graph).SerializeToString())
        for old in sorted(folder.glob("*.onnx"), key=lambda one: one.stat().st_mtime)[:-_MOST]:
            old.unlink()
    return proto


def random_entries(name: str, shape: Sequence[int], random: torch.Generator) -> Tensor:
    """Return entries for a parameter or buffer with which activations neither grow nor fade.

    Args:
        name: of the tensor: scales and variances are near 1, shifts and means near 0.
        shape: of the tensor; the first dimension of weights is that of the outputs.
        random: where they are drawn from.
    """
    noise = torch.rand(tuple(shape), generator=random)
    if len(shape) > 1:
        return (noise - 0.5) * math.sqrt(24 / max(1, noise[0].numel()))
    return noise * 0.2 + (0.9 if name.endswith(("weight", "running_var")) else -0.1)


def _whole_numbers(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the state that stays as it is in an export: indices and masks."""
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and not tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
            yield name, hashlib.sha256(repr(tensor.tolist()).encode()).hexdigest()


@cache
def _code() -> str:
    """Return a hash of the code that exports."""
    own = Path(__file__).parent
    files = [*sorted(own.glob("*.py")), own.parent / "pruning" / "fuse.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _emptied(proto: onnx.ModelProto, graph: ChannelGraph) -> onnx.ModelProto:
    """Return a copy without the entries of the network's parameters."""
    copied = without_weights(proto)
    for one in proto.graph.initializer:
        if parameter_of(one.name, graph.shapes) and one.data_type == onnx.TensorProto.FLOAT:
            one = onnx.TensorProto(name=one.name, data_type=one.data_type, dims=one.dims)
        copied.graph.initializer.append(one)
    return copied


def _filled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give parameters without entries random ones."""
    random = torch.Generator().manual_seed(0)
    for one in proto.graph.initializer:
        if one.data_type == onnx.TensorProto.FLOAT and not one.raw_data and not one.float_data:
            dims = one.dims[::-1] if one.name.endswith(TRANSPOSED) else one.dims
            entries = random_entries(one.name, dims, random).numpy()
            entries = entries.T.copy() if one.name.endswith(TRANSPOSED) else entries
            one.CopyFrom(numpy_helper.from_array(entries, one.name))
    return proto
