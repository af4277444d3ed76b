"""What a device does for EdgePrune: functions of JSON and files, called by name through `targets.agent`.

Each takes (arguments, files by name, a folder to write into) and returns JSON. They need the standard library, numpy
and the device's runtime. The host's side is `latency/bench.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from edgeprune.errors import InputError
from edgeprune.latency.measure import measure as measure_calls
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.pace import pace_us
from edgeprune.latency.rule import Rule
from edgeprune.runtimes.base import LayerTime, Session, SessionSettings
from edgeprune.runtimes.registry import find_record, open_runtime, records
from edgeprune.targets import clocks
from edgeprune.targets.accelerators import Accelerator, Unseen, Watch, find_accelerator

Json = Dict[str, Any]
Files = Mapping[str, Path]

REFERENCE = "reference"

_LAYER_RUNS = (25, 2000)
_LOOKED_AT = 4
_LOOK_S = 0.03
# The session that `outputs` used last, alone in here.
_KEPT: Dict[Any, Session] = {}


def describe(arguments: Json, files: Files, out: Path) -> Json:
    """Say what this machine and its runtime are, with the properties of one compiled model.

    Arguments: `runtime`, `precision`, `threads`, `copies`. Files: `model`. Returns `hardware`, `runtime_version`,
    `properties`, `affinity`.
    """
    runtime, accelerator = open_runtime(arguments["runtime"]), _accelerator(arguments)
    settings = _settings(arguments)
    with contextlib.closing(runtime.open(files["model"].read_bytes(), settings)) as session:
        return {
            "hardware": {**clocks.hardware(), **(accelerator.hardware() if accelerator else {})},
            "runtime_version": runtime.version(),
            "properties": session.properties,
            "affinity": _affinity(settings.threads),
        }


def examine(arguments: Json, files: Files, out: Path) -> Json:
    """Say what makes times on this machine less repeatable, and what it is. Returns `findings`, `hardware`."""
    accelerator = find_accelerator()
    seen = [] if isinstance(accelerator, Unseen) else accelerator.findings()
    hardware = {**clocks.hardware(), **accelerator.hardware()}
    return {"findings": [finding.to_json() for finding in (*seen, *clocks.findings())], "hardware": hardware}


def lacking(arguments: Json, files: Files, out: Path) -> Json:
    """Say which runtimes this machine has: name -> what keeps it from being used; an empty text where nothing does."""
    return {name: record.lacking() for name, record in records().items()}


def measure(arguments: Json, files: Files, out: Path) -> Json:
    """Time several models, interleaved.

    Arguments: `runtime`, `precision`, `threads`, `copies`, `rule`. Files: one model each. Returns by file name
    `measurement`, `properties` and `report`.
    """
    with contextlib.ExitStack() as open_sessions:
        sessions = {name: open_sessions.enter_context(_session(arguments, path)) for name, path in files.items()}
        found, watched = _measure(sessions, arguments)
        return {
            name: {
                "measurement": found[name].to_json(),
                "properties": session.properties,
                "report": {**session.report, **watched},
            }
            for name, session in sessions.items()
        }


def layers(arguments: Json, files: Files, out: Path) -> Json:
    """Time the layers of several models in place, and each whole engine without the per-layer clocks.

    Arguments and files as for `measure`, and `layers_s`: seconds for which each model's layers are timed, about; and
    `whole`: the files that are timed as a whole only. Returns by file name `rows`, `engine`, `properties`, `report`.
    """
    engines = measure(arguments, files, out)
    for name, path in files.items():
        rows: List[LayerTime] = []
        if name not in arguments["whole"]:
            runs = int(arguments["layers_s"] * 1e3 / engines[name]["measurement"]["median_ms"])
            with _pinned(_settings(arguments).threads), _session(arguments, path, per_layer=True) as session:
                rows = session.layer_times(min(max(runs, _LAYER_RUNS[0]), _LAYER_RUNS[1]))
                engines[name]["report"].update(session.report)
        engines[name]["rows"] = [row.to_json() for row in rows]
        engines[name]["engine"] = engines[name].pop("measurement")
    return engines


def outputs(arguments: Json, files: Files, out: Path) -> Json:
    """Run a model on stored inputs and store what comes out.

    Arguments: `runtime`, `precision`, `threads`. Files: `model`, and `inputs` (npz; one array for each input of the
    model, named as the model names it, rows along dimension 0). Writes `outputs.npz`: one array for each output. The
    model runs at its own batch size; a last batch that is not full is filled up with its last row, and cut afterwards.
    """
    session = _kept_session(arguments, files["model"].read_bytes())
    with np.load(str(files["inputs"]), allow_pickle=False) as stored:
        arrays = [_input(stored, name) for name in session.inputs]
    np.savez(str(out / "outputs.npz"), **dict(zip(session.outputs, _in_batches(session, arrays))))
    return {"outputs": session.outputs, "properties": session.properties}


def build(arguments: Json, files: Files, out: Path) -> Json:
    """Write the engine of a model. Arguments: `runtime`, `precision`, `threads`. Files: `model`. Returns `files`."""
    runtime = open_runtime(arguments["runtime"])
    written = runtime.save_engine(files["model"].read_bytes(), out, _settings(arguments))
    return {"files": [path.name for path in written], "runtime_version": runtime.version()}


def _measure(sessions: Mapping[str, Session], arguments: Json) -> Tuple[Dict[str, Measurement], Dict[str, str]]:
    """Time the sessions by the rule; return the measurements, and what was seen of the accelerator meanwhile.

    What was measured while an accelerator's clocks were free to move, or were held back, is not to be trusted.
    """
    rule, accelerator = Rule(**arguments["rule"]), _accelerator(arguments)
    threads = _settings(arguments).threads
    in_thread = accelerator is None and threads == 1
    calls = {name: session.infer for name, session in sessions.items()}
    cores = clocks.allowed_cores()

    def to_quiet_cores() -> None:
        if in_thread:
            clocks.pin(_best_core(cores))

    with clocks.keep_affinity(), Watch(accelerator, skip_s=rule.warmup_s * len(calls)) as watch:
        found = measure_calls(
            calls,
            rule,
            beside=REFERENCE if REFERENCE in calls else None,
            in_thread=in_thread,
            on_core=accelerator is None,
            cores=cores,
            spare_cores=max(0, len(cores) - threads),
            relocate=to_quiet_cores,
        )
    concerns = watch.concerns()
    if concerns:
        reason = "; ".join(concerns)
        lasting = watch.lasting
        found = {name: replace(one, trusted=False, reason=reason, lasting=lasting) for name, one in found.items()}
    return found, watch.report()


def _accelerator(arguments: Json) -> Optional[Accelerator]:
    """Return the accelerator that the runtime works on; None for a CPU."""
    return find_accelerator() if find_record(arguments["runtime"]).processor == "gpu" else None


@contextlib.contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """Keep a single-threaded session on one core: with more threads, the runtime's own were bound when it opened."""
    with clocks.keep_affinity():
        if threads == 1:
            clocks.pin(_best_core(clocks.allowed_cores()))
        yield


def _best_core(cores: Sequence[int]) -> List[int]:
    """Return, of the cores that nothing else uses, the one at the best pace: some neighbours show only there."""
    paces = {}
    for core in clocks.quietest_cores(cores)[:_LOOKED_AT]:
        clocks.pin([core])
        until = time.perf_counter() + _LOOK_S
        looks = [pace_us()]
        while time.perf_counter() < until:
            looks.append(pace_us())
        paces[core] = statistics.fmean(looks)
    return [min(paces, key=lambda core: paces[core])]


def _affinity(threads: int) -> str:
    if threads > 1 or not hasattr(os, "sched_setaffinity"):
        return "free"
    return f"one of {len(clocks.allowed_cores())} cores"


@contextlib.contextmanager
def _session(arguments: Json, model: Path, per_layer: bool = False) -> Iterator[Session]:
    runtime = open_runtime(arguments["runtime"])
    session = runtime.open(model.read_bytes(), _settings(arguments, per_layer))
    with contextlib.closing(session):
        session.bind(_random_inputs(session))
        yield session


def _kept_session(arguments: Json, model: bytes) -> Session:
    """Open a model, or return the session of the call before when it had the same: accuracy comes batch by batch."""
    key = (arguments["runtime"], _settings(arguments), hashlib.sha256(model).digest())
    if key not in _KEPT:
        while _KEPT:
            _KEPT.popitem()[1].close()
        _KEPT[key] = open_runtime(arguments["runtime"]).open(model, _settings(arguments))
    return _KEPT[key]


def _settings(arguments: Json, per_layer: bool = False) -> SessionSettings:
    """Return how the call wants its sessions; 0 threads means one for each core of this machine.

    Raises:
        InputError: more threads than cores: ONNX Runtime would start them, to wait for each other.
    """
    cores = len(clocks.allowed_cores())
    threads = int(arguments["threads"]) or cores
    if threads > cores:
        raise InputError(
            f"{threads} threads need as many cores; this process may use {cores}",
            remedy=f"use --threads {cores}, or start it without taskset if that is what keeps cores from it",
        )
    return SessionSettings(str(arguments["precision"]), threads, per_layer, bool(arguments["copies"]))


def _random_inputs(session: Session) -> List[Any]:
    """Return repeatable inputs: normal numbers, because zeros and denormals run at other speeds; zeros for indices."""
    generator = np.random.default_rng(0)
    arrays: List[Any] = []
    for name, shape in session.inputs.items():
        kind = np.dtype(session.input_types[name])
        arrays.append(generator.standard_normal(shape).astype(kind) if kind.kind == "f" else np.zeros(shape, kind))
    return arrays


def _input(stored: Mapping[str, Any], name: str) -> Any:
    if name not in stored:
        raise InputError(
            f"no array for input {name!r}; there is {', '.join(stored)}", remedy="name arrays as the model does"
        )
    return stored[name]


def _in_batches(session: Session, arrays: List[Any]) -> List[Any]:
    batch = next(iter(session.inputs.values()))[0]
    results: List[Tuple[Any, ...]] = []
    rows = len(arrays[0])
    for start in range(0, rows, batch):
        parts = [array[start : start + batch] for array in arrays]
        missing = batch - len(parts[0])
        if missing:
            parts = [np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) for part in parts]
        results.append(tuple(result[: batch - missing] for result in session.run(parts)))
    return [np.concatenate(column) for column in zip(*results)]
