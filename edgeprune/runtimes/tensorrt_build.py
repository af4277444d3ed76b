"""From ONNX to a TensorRT engine, on 8.5, 8.6, 10 and 11.

What changed between the versions, and how this file meets it (names of the bindings of 8.6.1, 10.3, 10.16, 11.4):
  - 8 has weakly typed networks: FP16 and INT8 are flags, and each layer's type is the builder's choice. From 10 on a
    network is made strongly typed, which 11 always is: the types are those of the ONNX file, and the flags are gone;
  - int8 is what stands between QuantizeLinear and DequantizeLinear, on all of them (no calibrator is used, which 11 has
    not). What else there is runs in half precision: on 8 the flag for it is set as well, from 10 on the file says so;
  - the flags' numbers changed (bit 0 is EXPLICIT_BATCH on 8 and 10, STRONGLY_TYPED on 11): members are looked up by
    name, and what not every version has, by its presence;
  - TF32 is on by default for float32: here `fp32` means float32, so it is off for it;
  - tactics are timed once each by default, which trtexec does 8 times; the default is a lottery.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from edgeprune.errors import InputError, MissingError
from edgeprune.runtimes.cudart import INTEGRATED, Cuda

if TYPE_CHECKING:
    import tensorrt as trt

LEVEL = 3
TIMINGS = 8
# Of the memory that is free: a board that shares its memory needs some for everything else.
_WORKSPACE = {"shared": 0.25, "own": 0.5}
_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}
_SKIPPED = "skipping tactic"


@dataclass(frozen=True)
class Built:
    """An engine.

    Attributes:
        plan: serialized; it belongs to this TensorRT and this kind of GPU.
        typing: `strong`, the types of the ONNX file, or `weak`, the builder's choice.
        timing_cache: what the builder timed, for the next build.
        skipped: tactics that were passed over, most often for want of memory: with more, it might be faster.
    """

    plan: bytes
    typing: str = "strong"
    timing_cache: bytes = b""
    skipped: int = 0


def build(onnx: bytes, precision: str, cuda: Cuda, timing_cache: bytes = b"") -> Built:
    """Build the engine of an ONNX model, batch and shapes static.

    Args:
        onnx: the model in one piece.
        precision: `fp32`, `fp16` or `int8`, which the model's own types must agree with.
        cuda: for the memory that is free.
        timing_cache: of an earlier build on the same device; one of another is passed over.

    Raises:
        InputError: the model can't be built so.
        MissingError: no GPU.
    """
    import tensorrt as trt

    log = make_log()
    builder = _builder(log)
    flags = trt.NetworkDefinitionCreationFlag
    typed = getattr(flags, "STRONGLY_TYPED", None)
    kind = typed if typed is not None else getattr(flags, "EXPLICIT_BATCH")  # noqa: B009  (no name that 11 has)
    network = builder.create_network(1 << int(kind))
    _parse(onnx, network, log)
    if precision == "fp16" and typed is not None:
        _check_half(network)
    config = builder.create_builder_config()
    _configure(config, precision, cuda, strongly=typed is not None)
    cache = _start_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError(
            f"TensorRT {trt.__version__} cannot build the model: {log.last_error()}",
            remedy="free memory on the device if that is what is short; else change the operator that it names",
        )
    result = Built(bytes(plan), "strong" if typed is not None else "weak", _stored(config, cache), log.skipped)
    # In this order: what was made from a builder must not outlive it.
    del plan, cache, config, network, builder
    gc.collect()
    return result


def merged(first: bytes, second: bytes) -> bytes:
    """Return one timing cache of two; the second wins where both know a tactic's time."""
    builder = _builder(make_log())
    config = builder.create_builder_config()
    cache = config.create_timing_cache(second)
    other = config.create_timing_cache(first) if first else None
    if other is not None:  # None as well where the file is damaged
        cache.combine(other, ignore_mismatch=False)
    return bytes(cache.serialize())


def make_log() -> Any:
    """Return a logger that keeps TensorRT's errors and counts the tactics that it skips."""
    import tensorrt as trt

    class Log(trt.ILogger):
        """What the builder said, as far as it matters afterwards."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: List[str] = []
            self.skipped = 0

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(msg)
            self.skipped += _SKIPPED in msg.lower()

        def last_error(self) -> str:
            # The very last is often no more than that there is no engine.
            return "; ".join(" ".join(one.split()) for one in self.errors[-2:]) or "it does not say why"

    return Log()


def sizes(dims: trt.Dims) -> Tuple[int, ...]:
    """Return a shape as plain numbers."""
    return tuple(int(dims[at]) for at in range(len(dims)))


def _builder(log: trt.ILogger) -> trt.Builder:
    import tensorrt as trt

    try:
        return trt.Builder(log)
    except TypeError as error:  # its word for: CUDA can't be initialised
        raise MissingError(
            f"TensorRT {trt.__version__} finds no GPU that it can use ({error})",
            remedy="nvidia-smi (on a Jetson: tegrastats) shows whether the driver works",
        ) from None


def _parse(onnx: bytes, network: trt.INetworkDefinition, log: Any) -> None:
    import tensorrt as trt

    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        errors = [parser.get_error(at) for at in range(parser.num_errors)]
        said = "; ".join(f"node {error.node()}: {error.desc()}" for error in errors[:3]) or log.last_error()
        raise InputError(
            f"TensorRT {trt.__version__} cannot read the model: {said}",
            remedy="check the ONNX file, and whether this TensorRT knows its operators and opset",
        )
    for at in range(network.num_inputs):
        port = network.get_input(at)
        if any(size < 0 for size in sizes(port.shape)):
            raise InputError(
                f"input {port.name!r} has no fixed shape: {sizes(port.shape)}",
                remedy="export the model with static shapes, batch 1",
            )


def _check_half(network: trt.INetworkDefinition) -> None:
    """Refuse a strongly typed network that has no half-precision tensor."""
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    names = {layer.get_output(at).dtype.name for layer in layers for at in range(layer.num_outputs)}
    if "HALF" not in names:
        raise InputError(
            f"the model's tensors are {', '.join(sorted(names))}: this TensorRT takes the types of the ONNX file",
            remedy="export it with --precision fp16",
        )


def _configure(config: trt.IBuilderConfig, precision: str, cuda: Cuda, *, strongly: bool) -> None:
    import tensorrt as trt

    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes(cuda))
    # One engine for the number and for its layers: the names cost nothing but a little host time at each launch.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.avg_timing_iterations = TIMINGS
    # From 8.6 on. With streams beside the first, layers overlap and their times don't add up.
    for name, value in {"builder_optimization_level": LEVEL, "max_aux_streams": 0}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in () if strongly else _FLAGS[precision]:
        config.set_flag(getattr(trt.BuilderFlag, name))


def _start_cache(config: trt.IBuilderConfig, stored: bytes) -> Optional[Any]:
    cache = config.create_timing_cache(stored)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _stored(config: trt.IBuilderConfig, cache: Optional[Any]) -> bytes:
    found = config.get_timing_cache() or cache
    return bytes(found.serialize()) if found is not None else b""


def workspace_bytes(cuda: Cuda) -> int:
    """Return how much memory the builder may work with."""
    return int(cuda.free_bytes() * _WORKSPACE["shared" if cuda.attribute(INTEGRATED) else "own"])


def described(precision: str, typing: str) -> Dict[str, str]:
    """Return what of the build decides whether two engines compare."""
    return {
        "typing": typing,
        "tf32": "off" if precision == "fp32" else "on",
        "builder_level": str(LEVEL),
        "timings_each": str(TIMINGS),
    }
