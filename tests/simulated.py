"""A device whose latency is a formula, so that what is built on measurements can be tested to the digit.

A convolution or matrix product costs 1 us and 1 ns for each multiply-accumulate, with the input channels rounded up to
4 and the output channels to 8; every other node costs 0.2 us. The engine costs 5 us more than its layers. Outputs are
ONNX Runtime's own. In int8 everything takes 0.4 of its time; the changes of type cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from torch import nn

from edgeprune.latency.bench import LayerTimes
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.quantized import is_quantized, quantized
from edgeprune.runtimes.base import LayerTime, SessionSettings
from edgeprune.targets.local import LocalDevice
from edgeprune.targets.target import Fingerprint, Target, find_target
from tests.nets import Residual

FIXED_US = 5.0
VIEWS = ("Reshape", "Flatten", "QuantizeLinear", "DequantizeLinear")
INT8 = 0.4


def node_times(model: bytes) -> list[LayerTime]:
    proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    graph = proto.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
    weights = {one.name: list(one.dims) for one in graph.initializer}
    times = []
    quantized = is_quantized(model)
    for node in graph.node:
        if node.op_type in VIEWS:
            continue
        us = 0.2
        if node.op_type in ("Conv", "Gemm"):
            cout, cin, *kernel = weights.get(node.input[1]) or shapes[node.input[1]]
            positions = int(np.prod(shapes[node.output[0]][2:]))
            us = 1 + 1e-3 * positions * np.prod(kernel, initial=1) * (-(-cin // 4) * 4) * (-(-cout // 8) * 8)
        times.append(LayerTime((node.name,), node.op_type, float(us) * (INT8 if quantized else 1)))
    return times


def measurement(ms: float, *, trusted: bool = True) -> Measurement:
    return Measurement(ms, ms, ms, 0.0, (ms,), 0.0, 1.0, 1, 1.0, 0, trusted, "" if trusted else "a test made it busy")


class Wide(Residual):
    """Stem 3 -> 32 and two blocks of 32 -> 24 -> 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem[0] = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.stem[1] = nn.BatchNorm2d(32)
        for block in (self.one, self.two):
            block[0] = nn.Conv2d(32, 24, 3, padding=1, bias=False)
            block[1] = nn.BatchNorm2d(24)
            block[3] = nn.Conv2d(24, 32, 3, padding=1, bias=False)
            block[4] = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, 5)


@dataclass
class SimulatedBench:
    """Fits where a `Bench` goes; `slowdown` multiplies what `measure` sees, `built` counts networks."""

    settings: SessionSettings = field(default_factory=SessionSettings)
    slowdown: float = 1.0
    trusted: bool = True
    built: int = 0
    opens_quickly: bool = True
    on_cpu: bool = True
    version: str = "1"
    device: LocalDevice = field(default_factory=LocalDevice)  # never started
    target: Target = field(default_factory=lambda: find_target("openvino"))

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            {
                "runtime": "simulated",
                "runtime_version": self.version,
                "precision": self.settings.precision,
                "threads": "1",
                "device": "formula",
            }
        )

    @property
    def quantizer(self) -> str:
        return "simulated 1" if self.settings.precision == "int8" else ""

    def measure(self, models: Mapping[str, bytes], rule: Any = None, reference: Any = None) -> dict[str, Measurement]:
        slowdown = reference.ms / self._ms(reference.model) if reference else self.slowdown
        return {name: measurement(self._ms(model) * slowdown, trusted=self.trusted) for name, model in models.items()}

    def layers(
        self,
        models: Mapping[str, bytes],
        rule: Any = None,
        layers_s: float = 0.0,
        reference: Any = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> dict[str, LayerTimes]:
        self.built += len(models)
        models = {**models, **(beside or {})}
        return {
            name: LayerTimes(tuple(node_times(self.typed(model))), measurement(self._ms(model), trusted=self.trusted))
            for name, model in models.items()
        }

    def outputs(self, model: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(self.typed(model), providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]
        rows = [
            session.run(None, {name: array[at : at + 1] for name, array in zip(names, inputs, strict=True)})
            for at in range(len(inputs[0]))
        ]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def typed(self, model: bytes, images: np.ndarray | None = None) -> bytes:
        return quantized(model, "qdq", images, reduced=True) if self.quantizer else model

    def build(self, model: bytes) -> dict[str, bytes]:
        return {"model.engine": model[:16]}

    def _ms(self, model: bytes) -> float:
        return (FIXED_US + sum(time.us for time in node_times(self.typed(model)))) / 1000

    def __enter__(self) -> SimulatedBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
