"""`latency/worker.py` on a device whose clock is a formula; everything else is real: runtimes, files, engines, outputs.

A node with weights costs 1 us and 1 ns a weight, with the channels rounded up to 8; any other 0.2 us. Runs on devices:
Python 3.8, no onnx.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, List, Mapping

from edgeprune.latency.measurement import Measurement
from edgeprune.latency.worker import build, describe, examine, outputs  # noqa: F401  (called by name)
from edgeprune.runtimes.base import LayerTime
from edgeprune.runtimes.onnxgraph import fields, read_nodes, submessage

Json = Dict[str, Any]
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_DIMS, _TENSOR_NAME = 7, 5, 1, 8


def measure(arguments: Json, files: Mapping[str, Path], out: Path) -> Json:
    return {name: {"measurement": _measurement(path), "properties": {}, "report": {}} for name, path in files.items()}


def layers(arguments: Json, files: Mapping[str, Path], out: Path) -> Json:
    time.sleep(arguments["layers_s"])  # it takes as long as it may
    return {
        name: {
            "rows": [row.to_json() for row in _rows(path)],
            "engine": _measurement(path),
            "properties": {},
            "report": {},
        }
        for name, path in files.items()
    }


def _measurement(path: Path) -> Json:
    ms = (5.0 + sum(row.us for row in _rows(path))) / 1000
    return Measurement(ms, ms, ms, 0.0, (ms,), 0.0, 1.0, 1, 1.0, 0, True).to_json()


def _rows(path: Path) -> List[LayerTime]:
    onnx = path.read_bytes()
    weights = _weights(onnx)
    rows = []
    for node in read_nodes(onnx):
        us = 0.2
        for dims in [weights[name] for name in node.inputs if len(weights.get(name, ())) > 1][:1]:
            size = 1
            for at, count in enumerate(dims):
                size *= -(-count // 8) * 8 if at < 2 else count
            us = 1 + 1e-3 * size
        rows.append(LayerTime((node.name,), node.op_type, us))
    return rows


def _weights(onnx: bytes) -> Dict[str, List[int]]:
    found = {}
    for field, graph in fields(memoryview(onnx)):
        for part, tensor in fields(submessage(graph)) if field == _MODEL_GRAPH else ():
            if part == _GRAPH_INITIALIZER:
                parts = list(fields(submessage(tensor)))
                name = next(bytes(submessage(value)).decode() for number, value in parts if number == _TENSOR_NAME)
                found[name] = [int(value) for number, value in parts if number == _TENSOR_DIMS]
    return found
