"""The host's side of measuring: one target on one device, ready to describe, time, run and build models."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
import onnx

from edgeprune.errors import InputError
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.quantized import QUANTIZERS, digest_of, is_quantized, needs_reduced_range, quantized
from edgeprune.latency.rule import Rule
from edgeprune.latency.typed import typed, widely_read
from edgeprune.latency.worker import REFERENCE
from edgeprune.progress import SILENT, Progress
from edgeprune.runtimes.base import LayerTime, SessionSettings
from edgeprune.runtimes.registry import RuntimeRecord, find_record
from edgeprune.targets.clocks import Finding
from edgeprune.targets.device import Answer, Device
from edgeprune.targets.devices import check_reach, open_device
from edgeprune.targets.target import Fingerprint, Target, find_target

_WORKER = "edgeprune.latency.worker"
_START_S = 120.0
_EACH_MODEL_S = {"cpu": 600.0, "gpu": 1800.0}
"""A GPU's engines take long to build, most of all on a small board."""

_QUANTIZED_KEPT = 8


@dataclass(frozen=True)
class LayerTimes:
    """A model's time, layer by layer and as a whole.

    Attributes:
        rows: the primitives, in execution order, timed in place with the per-layer clocks on.
        engine: the whole model, without those clocks. The rows need not add up to it.
        report: what else is to be known of this engine and its measurement.
    """

    rows: tuple[LayerTime, ...]
    engine: Measurement
    report: dict[str, str] = field(default_factory=dict)

    def factor(self, engine_ms: float) -> float:
        """Return an engine's time over the sum of the rows.

        It is far from 1 where the layers were counted in another state of the machine: the engine's number is that of
        its undisturbed inferences, the counters are means over all, and clocks of layers cost time.
        """
        return engine_ms * 1000 / max(sum(row.us for row in self.rows), 1e-9)

    def shares_of(self, engine_ms: float) -> tuple[LayerTime, ...]:
        """Return the rows as shares of an engine that takes `engine_ms`: they add up to it."""
        factor = self.factor(engine_ms)
        return tuple(replace(row, us=row.us * factor) for row in self.rows)


@dataclass(frozen=True)
class Reference:
    """A network that is timed beside others, because a ratio holds where a busy neighbour slows both.

    Attributes:
        model: as ONNX.
        ms: the latency that it is taken to have.
    """

    model: bytes
    ms: float


class Bench:
    """One target on one device with its settings. Leaving it as a context closes the device.

    Args:
        target: the kind of hardware.
        device: the machine.
        settings: of the runtime's sessions.
        fingerprint: what the machine is, where that is known without asking it.
    """

    def __init__(
        self, target: Target, device: Device, settings: SessionSettings, fingerprint: Fingerprint | None = None
    ) -> None:
        self.target = target
        self.device = device
        self.settings = settings
        self._fingerprint = fingerprint
        self._quantized: dict[str, bytes] = {}

    @property
    def quantizer(self) -> str:
        """What makes int8 models for this bench, with its version; empty where its models are not quantized."""
        method = self._record.quantizer
        return QUANTIZERS[method].version if self.settings.precision == "int8" and method else ""

    @property
    def on_cpu(self) -> bool:
        """Whether its engines run on a processor, in as many threads as are asked for."""
        return self._record.processor == "cpu"

    @property
    def opens_quickly(self) -> bool:
        """Whether models are opened in seconds; a GPU's engines take minutes to build."""
        return self.on_cpu

    @property
    def _record(self) -> RuntimeRecord:
        return find_record(self.target.runtime)

    def fingerprint(self) -> Fingerprint:
        """Describe what measurements on this bench are comparable with, read off a small compiled model, once."""
        if self._fingerprint is None:
            self._fingerprint = self._described()
        return self._fingerprint

    def _described(self) -> Fingerprint:
        # Of an int8 model what follows depends on the fingerprint: this one is as every version of a runtime takes it.
        model = quantized(_tiny_model(), self._record.quantizer) if self.quantizer else _tiny_model()
        found = self._call("describe", {}, {"model": model}).result
        return Fingerprint(
            {
                **found["hardware"],
                **found["properties"],
                "runtime": self.target.runtime,
                "runtime_version": found["runtime_version"],
                "affinity": found["affinity"],
                **({"quantizer": self.quantizer} if self.quantizer else {}),
            }
        )

    def measure(
        self, models: Mapping[str, bytes], rule: Rule | None = None, reference: Reference | None = None
    ) -> dict[str, Measurement]:
        """Time several ONNX models, interleaved; by `rule`, or by the usual one.

        With a reference, that is timed beside them, and the times are as they would be where it takes its `ms`.
        """
        found = self._call("measure", {"rule": (rule or Rule()).to_json()}, _with(reference, models)).result
        times = {name: Measurement.from_json(one["measurement"]) for name, one in found.items()}
        return {name: _rebased(times[name], times, reference) for name in models}

    def layers(
        self,
        models: Mapping[str, bytes],
        rule: Rule | None = None,
        layers_s: float = 2.0,
        reference: Reference | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> dict[str, LayerTimes]:
        """Time several ONNX models layer by layer for about `layers_s` seconds, and whole engines as `measure` does.

        Those in `beside` are timed whole only, interleaved with the others: they have no rows.
        """
        whole = [*(beside or {}), *([REFERENCE] if reference else [])]
        arguments = {"rule": (rule or Rule()).to_json(), "layers_s": layers_s, "whole": whole}
        found = self._call("layers", arguments, _with(reference, {**models, **(beside or {})})).result
        times = {name: Measurement.from_json(one["engine"]) for name, one in found.items()}
        return {
            name: LayerTimes(
                rows=tuple(LayerTime.from_json(row) for row in found[name]["rows"]),
                engine=_rebased(times[name], times, reference),
                report=found[name]["report"],
            )
            for name in found
            if name != REFERENCE
        }

    def outputs(self, model: bytes, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Run `model` on the device over all rows of `inputs` (one array for each input of the model).

        Returns:
            One array for each output of the model, with as many rows as the inputs.
        """
        names = _input_names(model)
        if len(names) != len(inputs) or len({len(array) for array in inputs}) != 1:
            shapes = ", ".join(str(array.shape) for array in inputs)
            raise InputError(
                f"the model has inputs {', '.join(names)}, but arrays of shapes {shapes} were given",
                remedy="give one array for each input, with equally many rows",
            )
        stored = io.BytesIO()
        # allow_pickle must stay out of the names: they are the model's.
        np.savez(stored, **dict(zip(names, inputs, strict=True)))  # type: ignore[arg-type]
        answer = self._call("outputs", {}, {"model": model, "inputs": stored.getvalue()})
        with np.load(io.BytesIO(answer.files["outputs.npz"]), allow_pickle=False) as results:
            return [results[name] for name in answer.result["outputs"]]

    def build(self, model: bytes) -> dict[str, bytes]:
        """Build the engine of `model` on the device; return its files by name."""
        return self._call("build", {}, {"model": model}).files

    def close(self) -> None:
        """Let go of the device."""
        self.device.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, function: str, arguments: Mapping[str, Any], files: Mapping[str, bytes]) -> Answer:
        settings = {
            "runtime": self.target.runtime,
            "precision": self.settings.precision,
            "threads": self.settings.threads,
            "copies": self.settings.copies,
        }
        models = {name: content if name == "inputs" else self.typed(content) for name, content in files.items()}
        timeout_s = _START_S + _EACH_MODEL_S[self._record.processor] * len(files)
        return self.device.call(f"{_WORKER}:{function}", {**settings, **arguments}, models, timeout_s)

    def typed(self, model: bytes, images: np.ndarray[Any, Any] | None = None) -> bytes:
        """Return a float32 model as it is given to the runtime: in the engine's types where that takes them from it.

        Args:
            model: as ONNX; one that has the types already is left alone.
            images: (N, C, H, W) that an int8 model's scales come from; None takes noise, since a latency does not
                depend on the values.
        """
        if self._record.takes_types:
            model = widely_read(model)
        if not self.quantizer:
            return typed(model, self.settings.precision) if self._record.takes_types else model
        if is_quantized(model):
            return model
        key = digest_of(model, images)
        found = self._quantized.pop(key, None) or self._as_int8(model, images)
        while len(self._quantized) >= _QUANTIZED_KEPT:
            del self._quantized[next(iter(self._quantized))]
        self._quantized[key] = found  # as the last: what is used again and again stays
        return found

    def _as_int8(self, model: bytes, images: np.ndarray[Any, Any] | None) -> bytes:
        reduced = self.on_cpu and images is not None and needs_reduced_range(self.fingerprint())
        found = quantized(model, self._record.quantizer, images, reduced=reduced)
        if not self._record.takes_types or self.fingerprint()["typing"] == "weak":
            return found
        return typed(found, "fp16")  # what is not int8; where typing is weak, a flag of the builder says so


def _with(reference: Reference | None, models: Mapping[str, bytes]) -> dict[str, bytes]:
    return dict(models) if reference is None else {**models, REFERENCE: reference.model}


def _rebased(found: Measurement, times: Mapping[str, Measurement], reference: Reference | None) -> Measurement:
    return found if reference is None else found.rebased(times[REFERENCE], reference.ms)


def open_bench(
    target_name: str,
    *,
    device: str | Device = "local",
    precision: str | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Bench:
    """Open a target on a device; nothing is started before the first call.

    Args:
        target_name: name of a profile.
        device: `local`, an ssh address, or a device that is open already.
        precision: None takes the profile's default.
        threads: None takes the profile's default.
        progress: where it is said that a connection to the device was cut and is taken up again.

    Raises:
        InputError: an unknown name, or a precision or a number of threads that the target does not have.
        MissingError: no such device can be reached, or the runtime, or what int8 needs, is not there.
    """
    target = find_target(target_name)
    settings = settings_of(target, precision, threads)
    check_reach(target, device if isinstance(device, str) else device.name)
    opened = open_device(device, progress) if isinstance(device, str) else device
    return Bench(target, opened, settings)


def settings_of(target: Target, precision: str | None, threads: int | None) -> SessionSettings:
    """Return the settings of a target's sessions; None takes the profile's default.

    Raises:
        InputError: a precision or a number of threads that the target does not have.
        MissingError: what int8 needs is not there.
    """
    precision = precision or target.precision
    if precision not in target.precisions:
        raise InputError(
            f"precision {precision!r} is not for target {target.name}", remedy=f"use {', '.join(target.precisions)}"
        )
    if precision == "int8" and target.record and target.record.quantizer:
        QUANTIZERS[target.record.quantizer].check()
    threads = target.threads if threads is None else threads
    if threads < 0:
        raise InputError(f"{threads} threads", remedy="use --threads 1 or more")
    return SessionSettings(precision, threads, copies=target.copies)


def examine(device: Device) -> tuple[dict[str, str], list[Finding]]:
    """Return what the machine is, and what about it makes times less repeatable."""
    found = device.call(f"{_WORKER}:examine", {}, {}, _START_S).result
    return found["hardware"], [Finding.from_json(finding) for finding in found["findings"]]


def _input_names(model: bytes) -> list[str]:
    graph = onnx.load_model_from_string(model).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [port.name for port in graph.input if port.name not in stored]


def _tiny_model() -> bytes:
    """Return a small convolution and its activation: enough for a compiled model's properties to be real."""
    weight = np.full((16, 16, 3, 3), 0.01, np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["input", "weight"], ["conv"], name="conv", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
    ]
    shape = [1, 16, 16, 16]
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("relu", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
