"""A pipeline that only remembers how it was called: what the command line does is tested without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

EXPORTED: dict[str, Any] = {
    "schema": "edgeprune.export/1",
    "status": "met",
    "target": "openvino",
    "fingerprint": {"runtime": "openvino"},
    "bundle": "runs/x",
    "latency_ms": {"budget": 6.0, "dense": 10.0, "predicted": 5.5, "measured": 5.7, "p90": 5.9, "floor": 2.0},
    "rounds": 2,
    "accuracy": {"dense": 0.93, "pruned": 0.92, "engine": 0.92},
    "macs": {"dense": 40e6, "pruned": 20e6},
    "params": {"dense": 800e3, "pruned": 400e3},
    "numerics": {"slim_vs_masked": 3e-7, "onnx_vs_torch": 1e-6, "engine_vs_torch": 2e-6},
    "plan": {
        "stem": {"width": 16, "of": 16, "modules": ["stem"]},
        "layer1.0.conv1": {"width": 8, "of": 16, "modules": ["layer1.0.conv1", "layer1.0.bn1"]},
    },
    "solver": {"gap": 1e-4, "seconds": 0.3},
    "steps": [{"name": "trace", "seconds": 1.5}],
    "reasons": [],
}


TRAINED: dict[str, Any] = {
    "schema": "edgeprune.train/1",
    "status": "trained",
    "method": "rni",
    "checkpoint": "runs/demo-rni",
    "epochs": 5,
    "loss": 0.25,
    "accuracy": {"last": 0.91, "best": 0.92},
    "left": 0.5,
    "macs": {"dense": 40e6, "trained": 40e6},
    "params": {"dense": 800e3, "trained": 800e3},
    "seconds": 61.0,
}


@dataclass(frozen=True)
class FakeResult:
    content: dict[str, Any]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        return self.content


@dataclass
class FakePipeline:
    """Every call into the pipeline is kept in `calls`; `answer` says what comes of it."""

    answer: Callable[[], FakeResult] = lambda: FakeResult(EXPORTED)
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def module(self) -> ModuleType:
        module = ModuleType("edgeprune.pipeline")
        for verb in ("export", "plan", "profile", "check", "share", "train", "verify", "doctor"):
            setattr(module, verb, self._recorder(verb))
        return module

    def _recorder(self, verb: str) -> Callable[..., FakeResult]:
        def call(*arguments: Any, **options: Any) -> FakeResult:
            self.calls.append((verb, (*arguments, *options.values())))
            print("a library's chatter")
            return self.answer()

        return call
