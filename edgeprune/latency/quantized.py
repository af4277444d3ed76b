"""A float32 ONNX network as an int8 one, quantized after training; it stays ONNX, with QuantizeLinear in it.

| method      | made by                  | activations             | weights                          | biases      |
|-------------|--------------------------|-------------------------|----------------------------------|-------------|
| `nncf`      | NNCF                     | unsigned, or as it sees | signed, a scale for each channel | corrected   |
| `qdq`       | onnxruntime.quantization | unsigned                | signed, a scale for each channel | as they are |
| `symmetric` | `symmetric.py`           | signed, zero points 0   | signed, a scale for each channel | as they are |

All are static: what passes through the network is observed on images, and the scales are constants from then on. A
latency does not depend on the values, so a network that is built for a latency table alone is quantized from noise.

Without VNNI, a processor adds pairs of products in 16 bits, which overflow when the weights use all of their 8 bits:
there they use 7, but for NNCF's depthwise convolutions, which add too few products for that.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeprune.errors import InputError, MissingError
from edgeprune.latency.symmetric import symmetric
from edgeprune.muting import muted

Feed = Mapping[str, np.ndarray]

_VNNI = frozenset(["avx_vnni", "avx512_vnni"])


@dataclass(frozen=True)
class Quantizer:
    """How an int8 network is made.

    Attributes:
        package: the distribution that does it, and its module.
        install: the command that installs it.
        quantize: float32 model, feeds, whether weights keep to 7 bits, whether biases are corrected -> int8 model.
        rules: name and number of our own rules for what is quantized; empty where the package decides.
    """

    package: str
    install: str
    quantize: Callable[[bytes, Sequence[Feed], bool, bool], bytes]
    rules: str = ""

    def check(self) -> None:
        """See that the package is there, without importing it.

        Raises:
            MissingError: it is not.
        """
        if find_spec(self.package) is None:
            raise MissingError(f"int8 needs {self.package}, which is not installed", remedy=self.install)

    @property
    def version(self) -> str:
        """Who decides which layers are quantized, with a version: another one may decide otherwise."""
        return self.rules or f"{self.package} {metadata.version(self.package)}"


def is_quantized(model: bytes) -> bool:
    """Whether a model has int8 in it already."""
    return any(node.op_type == "QuantizeLinear" for node in onnx.load_model_from_string(model).graph.node)


def quantized(model: bytes, method: str, images: np.ndarray | None = None, *, reduced: bool = False) -> bytes:
    """Return a float32 ONNX model with one row a call as an int8 one; one that is int8 already is left alone.

    Args:
        model: serialized; its nodes keep their names.
        method: a key of `QUANTIZERS`.
        images: (N, C, H, W) for the scales; None takes noise, which is good for measuring latencies alone.
        reduced: weights use 7 of their 8 bits, for a processor without VNNI.

    Raises:
        InputError: the model has several inputs and images for one, or the method can't quantize it.
        MissingError: the method's package is not installed.
    """
    if is_quantized(model):
        return model
    QUANTIZERS[method].check()
    ports = _inputs(model)
    if images is None:
        feeds = [_noise(ports)]
    elif len(ports) == 1:
        feeds = [dict.fromkeys(ports, image[None]) for image in images]
    else:
        raise InputError(
            f"int8 is calibrated by images, but the network has the inputs {', '.join(ports)}",
            remedy="use another --precision",
        )
    try:
        with muted():
            found = QUANTIZERS[method].quantize(model, feeds, reduced, images is not None)
    except Exception as error:
        # The packages' errors share no base class but Exception.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{QUANTIZERS[method].version} can't quantize this network: {said}", remedy="use another --precision"
        ) from error
    if not is_quantized(found):
        raise InputError(
            f"{QUANTIZERS[method].version} found nothing in this network to quantize", remedy="use another --precision"
        )
    return found


def needs_reduced_range(fingerprint: Mapping[str, str]) -> bool:
    """Whether a processor adds products of 8 bits in 16 bits, as x86 without VNNI does."""
    return fingerprint.get("arch") in ("x86_64", "AMD64") and not _VNNI & set(fingerprint.get("isa", "").split())


def digest_of(model: bytes, images: np.ndarray | None) -> str:
    """Return a name for what `quantized` makes of these."""
    digest = hashlib.sha256(model)
    if images is not None:
        digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()


def _inputs(model: bytes) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    graph = onnx.load_model_from_string(model).graph
    stored = {tensor.name for tensor in graph.initializer}
    return {
        port.name: (
            tuple(size.dim_value for size in port.type.tensor_type.shape.dim),
            onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type),
        )
        for port in graph.input
        if port.name not in stored
    }


def _noise(ports: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> Feed:
    random = np.random.default_rng(0)
    return {
        name: random.standard_normal(shape).astype(kind) if kind.kind == "f" else np.zeros(shape, kind)
        for name, (shape, kind) in ports.items()
    }


def _by_nncf(model: bytes, feeds: Sequence[Feed], reduced: bool, corrected: bool) -> bytes:
    if "nncf" not in sys.modules:
        # It would report to its makers; without the package it falls back on its own stub.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import nncf

    fix = nncf.OverflowFix.ENABLE if reduced else nncf.OverflowFix.DISABLE
    found: onnx.ModelProto = nncf.quantize(
        onnx.load_model_from_string(model),
        nncf.Dataset(feeds),
        subset_size=len(feeds),
        target_device=nncf.TargetDevice.CPU,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=fix, disable_bias_correction=not corrected
        ),
    )
    return bytes(found.SerializeToString())


class _Feeds:
    """The feeds as onnxruntime.quantization reads them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._left, None)


def _by_onnxruntime(model: bytes, feeds: Sequence[Feed], reduced: bool, corrected: bool) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(_Feeds, CalibrationDataReader):  # type: ignore[misc]
        """Feeds of the type that is asked for."""

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        source, result = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        quantize_static(
            source,
            result,
            Reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduced,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return result.read_bytes()


def _by_symmetric(model: bytes, feeds: Sequence[Feed], reduced: bool, corrected: bool) -> bytes:
    # For a GPU, which adds in 32 bits: there is nothing to reduce.
    return symmetric(model, feeds)


QUANTIZERS = {
    "nncf": Quantizer("nncf", "pip install 'edgeprune[int8]'", _by_nncf),
    "qdq": Quantizer("onnxruntime", "pip install onnxruntime", _by_onnxruntime),
    "symmetric": Quantizer("onnxruntime", "pip install onnxruntime", _by_symmetric, "symmetric Q/DQ 1"),
}
