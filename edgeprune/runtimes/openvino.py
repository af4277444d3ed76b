"""OpenVINO on the CPU: settings that are read back, and per-layer times from its counters.

Facts about the CPU plug-in that this file rests on (OpenVINO 2026.4; src/plugins/intel_cpu perf_count.h, graph.cpp):
  - without INFERENCE_PRECISION_HINT it runs bf16 wherever the processor can; a precision or a thread count that it
    cannot give is replaced silently, so both are read back from the compiled model and compared;
  - one preemption stays in the mean of a node's counter for ever, so several fresh compilations are counted (see
    `openvino_layers.py`);
  - by default it binds whatever thread calls an inference to a core of its own choice, on every call; where something
    else binds that thread too (this measuring does), small networks at times take 0.1 ms more for as long as they are
    loaded (0.27 instead of 0.16 ms), and the other core is not left. So one thread is not bound by it; several are;
  - int8 is in the model, not a setting: the runtime model says of each primitive what it computes in, u8 or i8 there;
    what is left in floating point then runs in float32;
  - `import openvino` reports to its makers through the package openvino_telemetry when that is importable.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from edgeprune.errors import InputError
from edgeprune.runtimes.base import LayerTime, SessionSettings
from edgeprune.runtimes.interruptions import Stopwatch, explained, least_disturbed, within
from edgeprune.runtimes.onnxgraph import read_nodes
from edgeprune.runtimes.openvino_layers import Counter, counters, one_run_us, served_by

_DEVICE = "CPU"
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_READ_BACK = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16", "int8": "INT8"}
_MULTIPLY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
_INT8 = ("i8", "u8")
_COMPILATIONS = (2, 8)
_COMPILING_S = 2.0
_COLD_RUNS = 10
_COLD_SECONDS = 0.03


class _Count(NamedTuple):
    """What one compilation has counted.

    Attributes:
        counters: as they were read in the end.
        us: of one inference, by primitive.
        watch: held over all runs that count.
    """

    counters: list[Counter]
    us: list[float]
    watch: Stopwatch


class OpenVINO:
    """The runtime `openvino`, on the CPU."""

    name = "openvino"

    def version(self) -> str:
        """Return OpenVINO's version, without its build hash."""
        return str(_openvino().get_version()).split("-")[0]

    def open(self, onnx: bytes, settings: SessionSettings) -> OpenVINOSession:
        """Compile `onnx` for one stream; see `base.Runtime.open`."""
        return OpenVINOSession(onnx, settings)

    def save_engine(self, onnx: bytes, folder: Path, settings: SessionSettings) -> list[Path]:
        """Write the IR, `model.xml` and `model.bin`, with float32 weights: the precision is set when it is compiled."""
        folder.mkdir(parents=True, exist_ok=True)
        xml = folder / "model.xml"
        openvino = _openvino()
        openvino.save_model(_read_model(openvino.Core(), onnx), str(xml), compress_to_fp16=False)
        return [xml, folder / "model.bin"]


class OpenVINOSession:
    """A model compiled by OpenVINO; see `base.Session`."""

    def __init__(self, onnx: bytes, settings: SessionSettings) -> None:
        if settings.precision not in _PRECISIONS:
            raise InputError(
                f"OpenVINO does not run {settings.precision!r} here", remedy=f"use one of {', '.join(_PRECISIONS)}"
            )
        self._settings = settings
        self._openvino = _openvino()
        self._core = self._openvino.Core()
        self._model = _read_model(self._core, onnx)
        self._nodes = read_nodes(onnx)
        self._arrays: list[Any] = []
        started = time.perf_counter()
        compiled = self._compile()
        self._compile_s = time.perf_counter() - started
        kinds = _multiplied_in(compiled)
        self.properties = _read_back(self._core, compiled, kinds)
        _refuse_other(self.properties, settings, self._core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
        self.inputs = {port.get_any_name(): tuple(port.shape) for port in compiled.inputs}
        self.input_types = {
            port.get_any_name(): np.dtype(port.element_type.to_dtype()).name for port in compiled.inputs
        }
        self.outputs = [port.get_any_name() for port in compiled.outputs]
        self.report: dict[str, str] = {}
        if self.properties["precision"] == "int8":
            self.report["int8_layers"] = f"{sum(kind in _INT8 for kind in kinds)} of {len(kinds)}"
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def bind(self, arrays: Sequence[Any]) -> None:
        """Copy the inputs in; see `base.Session.bind`."""
        self._arrays = [
            np.array(array, dtype=kind, order="C") for array, kind in zip(arrays, self.input_types.values())
        ]
        self._bind_to(self._request)

    def infer(self) -> None:
        """Run one synchronous inference; see `base.Session.infer`."""
        self._request.infer(share_outputs=True)

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Infer on `arrays`; see `base.Session.run`."""
        self.bind(arrays)
        self.infer()
        return [np.array(self._request.get_output_tensor(index).data) for index in range(len(self.outputs))]

    def layer_times(self, runs: int) -> list[LayerTime]:
        """Time every primitive; see `base.Session.layer_times`.

        `runs` are shared out over several fresh compilations, fewer where these take long. A row's time is the median
        over the least disturbed of them.
        """
        if not self._settings.per_layer:
            raise InputError("this session has no per-layer clocks", remedy="open it with per_layer=True")
        least, most = _COMPILATIONS
        compilations = min(most, max(least, int(_COMPILING_S / self._compile_s)))
        each = max(5, math.ceil(runs / compilations))
        counts = [self._count(each) for _ in range(compilations)]
        # Matched by position: constants get new numbers, and so new names, in every compilation.
        primitives = [counter.primitive for counter in counts[0].counters]
        served = served_by(counts[0].counters, self._nodes)
        counts = [counts[at] for at in least_disturbed([one.watch for one in counts])]
        times = [statistics.median(row) for row in zip(*(one.us for one in counts))]
        layers_us = each * sum(sum(one.us) for one in counts)
        self.report.update(explained(layers_us, sum(one.watch.wall_us for one in counts)))
        return [
            LayerTime(of.nodes, primitive.op_type, us, of.behind)
            for of, primitive, us in zip(served, primitives, times)
        ]

    def close(self) -> None:
        """Release the compiled model; see `base.Session.close`."""
        self._request = self._compiled = self._model = self._core = None

    def _count(self, runs: int) -> _Count:
        """Compile afresh, warm up, and count `runs`."""
        compiled = self._compile()
        request = compiled.create_infer_request()
        self._bind_to(request)
        cold, until = 0, time.perf_counter() + _COLD_SECONDS
        while cold < _COLD_RUNS or time.perf_counter() < until:
            request.infer(share_outputs=True)
            cold += 1
        start = counters(compiled, self._nodes)
        watch = Stopwatch()
        for _ in range(runs):
            request.infer(share_outputs=True)
        watch.stop()
        if self._settings.threads > 1:
            # The calling thread leaves work to others, so its processor time says nothing.
            watch.used_us, watch.ran_through = watch.wall_us, True
        counted = counters(compiled, self._nodes)
        times = [one_run_us(now.mean_us, cold + runs, then.mean_us, cold) for now, then in zip(counted, start)]
        return _Count(counted, within(watch.used_us / runs, times), watch)

    def _compile(self) -> Any:
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._settings.threads,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self._settings.precision],
            "ENABLE_CPU_PINNING": self._settings.threads > 1,
            "PERF_COUNT": self._settings.per_layer,
        }
        return self._core.compile_model(self._model, _DEVICE, config)

    def _bind_to(self, request: Any) -> None:
        for index, array in enumerate(self._arrays):
            request.set_input_tensor(index, self._openvino.Tensor(array, shared_memory=True))


def _openvino() -> Any:
    """Import OpenVINO with its telemetry off: without the package it falls back on its own stub.

    With ONEDNN_VERBOSE set to more than errors, OpenVINO 2026.4 computes nothing, and says nothing of that: outputs are
    what lay in memory, and inferences take microseconds. So it is taken from this process's environment.
    """
    if "openvino" not in sys.modules:
        os.environ.pop("ONEDNN_VERBOSE", None)
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read_model(core: Any, onnx: bytes) -> Any:
    try:
        model = core.read_model(onnx)
    except RuntimeError as error:
        raise InputError(
            f"OpenVINO cannot read the model: {_first_line(error)}", remedy="check the ONNX file"
        ) from None
    for port in model.inputs:
        if port.partial_shape.is_dynamic:
            raise InputError(
                f"input {port.get_any_name()!r} has no fixed shape: {port.partial_shape}",
                remedy="export the model with static shapes, batch 1",
            )
    return model


def _multiplied_in(compiled: Any) -> list[str]:
    """Return the type that each primitive which multiplies by weights computes in."""
    infos = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ordered_ops()]
    return [info["runtimePrecision"].value for info in infos if info["layerType"].value in _MULTIPLY]


def _read_back(core: Any, compiled: Any, kinds: Sequence[str]) -> dict[str, str]:
    """Return what the compiled model says about itself; `kinds` is what its layers multiply in."""
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return {
        "precision": "int8" if any(kind in _INT8 for kind in kinds) else _READ_BACK.get(hint, hint),
        "threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
        "streams": str(compiled.get_property("NUM_STREAMS")),
        "pinning": str(compiled.get_property("ENABLE_CPU_PINNING")),
        "device": ",".join(compiled.get_property("EXECUTION_DEVICES")),
        "device_name": str(core.get_property(_DEVICE, "FULL_DEVICE_NAME")),
        **_requirements(compiled),
    }


def _requirements(compiled: Any) -> dict[str, str]:
    """Return what a compiled model asks of the runtime that loads it; nothing where OpenVINO is too old to tell."""
    try:
        return {"runtime_requirements": str(compiled.get_property("RUNTIME_REQUIREMENTS"))}
    except RuntimeError:
        return {}


def _refuse_other(found: Mapping[str, str], settings: SessionSettings, capabilities: Sequence[str]) -> None:
    """Refuse what the compiled model says of itself where it is not what was asked for.

    Raises:
        InputError: another precision, which may be one that the processor does not have, or another number of threads.
    """
    asked = settings.precision
    if found["precision"] != asked and _CAPABILITIES.get(asked, "FP32") not in capabilities:
        offered = ", ".join(sorted(ours for ours, name in _CAPABILITIES.items() if name in capabilities))
        raise InputError(
            f"this processor has no {asked}: OpenVINO would run {found['precision']} on it, not {asked}",
            remedy=f"use --precision fp32{f' or {offered}' if offered else ''}",
        )
    for what, wanted in (("precision", asked), ("threads", str(settings.threads))):
        if found[what] != wanted:
            raise InputError(
                f"OpenVINO gives {what} {found[what]} on this machine, not {wanted}",
                remedy=f"ask for --{what} {found[what]}",
            )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
