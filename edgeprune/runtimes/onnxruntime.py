"""ONNX Runtime on the CPU: settings for one stream, and per-layer times from its profiler.

Facts that this file rests on (ONNX Runtime 1.31):
  - the profiler costs about 5 us a node, so a profiled session's own latency means nothing. Some 3 of them lie within
    the node's own time, spent on texts about its shapes, much the same for every node (2.5 to 3.3 us for Conv, Sigmoid
    and Add on 1 to 2,048 numbers), but not the same in every process. So the network is run with the profiler and
    without it, in turns, and what it takes longer is taken off every node alike. Times are cut to whole microseconds;
    the first run of every node is cold; the profiler stops silently at a maximum number of events;
  - with the blocked layout (NCHWc) a fused node is called `<name of the tensor it writes>_nchwc`; the layout changes
    ReorderInput and ReorderOutput are nodes of their own;
  - a quantized convolution becomes a QLinearConv, named after it and a number: `conv_token_3`; only the optimised graph
    says whether it did;
  - the threads that help with an inference go on spinning for 40 ms after it, and take a core from whatever runs next:
    a ResNet-18 on two threads and two cores took 50 instead of 23 ms in turns with another session. So they are made
    to stop, and what that costs, some 0.02 ms to wake them again, is in every number;
  - unknown configuration keys are accepted silently, so only keys from onnxruntime_session_options_config_keys.h here.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from edgeprune.errors import InputError
from edgeprune.runtimes.base import LayerTime, SessionSettings
from edgeprune.runtimes.interruptions import Stopwatch, explained, least_disturbed
from edgeprune.runtimes.onnxgraph import Primitive, attribute, behind, read_nodes

_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3
_TOKEN = re.compile(r"_token_\d+$")
_STOP_SPINNING = "session.force_spinning_stop"
_CUT_US = 0.5
_LEAST_US = 0.1
_COLD_RUNS = 10
_TURN = 5
_RUNS_LEAST = 10
_EVENTS_MAX = 100_000
_KERNEL_SUFFIX = "_kernel_time"
_INT8_MULTIPLY = ("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearConv", "QLinearMatMul")
_PRECISIONS = ("fp32", "int8")
_NUMPY_NAMES = {"float": "float32", "double": "float64"}


class ONNXRuntime:
    """The runtime `onnxruntime`, on the CPU."""

    name = "onnxruntime"

    def version(self) -> str:
        """Return ONNX Runtime's version."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def open(self, onnx: bytes, settings: SessionSettings) -> ONNXRuntimeSession:
        """Load `onnx` for one stream; see `base.Runtime.open`."""
        return ONNXRuntimeSession(onnx, settings)

    def save_engine(self, onnx: bytes, folder: Path, settings: SessionSettings) -> list[Path]:
        """Write the plain model: what the optimiser makes of it is valid on one kind of processor only."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.onnx"
        path.write_bytes(onnx)
        return [path]


class ONNXRuntimeSession:
    """A model loaded by ONNX Runtime; see `base.Session`."""

    def __init__(self, onnx: bytes, settings: SessionSettings) -> None:
        if settings.precision not in _PRECISIONS:
            raise InputError(
                f"ONNX Runtime does not run {settings.precision!r} here",
                remedy=f"use --precision {' or '.join(_PRECISIONS)}",
            )
        self._onnx = onnx
        self._settings = settings
        self._arrays: list[Any] = []
        self._session: Any = _open(onnx, _options(settings))
        ports = self._session.get_inputs()
        self.inputs = {port.name: _static(port) for port in ports}
        self.input_types = {port.name: _numpy_name(port.type) for port in ports}
        self.outputs = [port.name for port in self._session.get_outputs()]
        self.report: dict[str, str] = {}
        options = self._session.get_session_options()
        self.properties = {
            "precision": _read_precision(onnx, settings),
            "threads": str(options.intra_op_num_threads),
            "streams": str(options.inter_op_num_threads),
            "device": ",".join(self._session.get_providers()),
        }
        if settings.threads > 1:
            self.properties["force_spinning_stop"] = options.get_session_config_entry(_STOP_SPINNING)
        if self.properties["precision"] != settings.precision:
            raise InputError(
                f"ONNX Runtime computes this model in {self.properties['precision']}, not {settings.precision}",
                remedy=f"ask for --precision {self.properties['precision']}",
            )
        self._binding: Any = None

    def bind(self, arrays: Sequence[Any]) -> None:
        """Copy the inputs in; see `base.Session.bind`."""
        self._arrays = [
            np.array(array, dtype=kind, order="C") for array, kind in zip(arrays, self.input_types.values())
        ]
        self._binding = self._bind(self._session)

    def infer(self) -> None:
        """Run one inference; see `base.Session.infer`."""
        self._session.run_with_iobinding(self._binding)

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Infer on `arrays`; see `base.Session.run`."""
        self.bind(arrays)
        self.infer()
        return [np.array(array) for array in self._binding.copy_outputs_to_cpu()]

    def layer_times(self, runs: int) -> list[LayerTime]:
        """Time every primitive; see `base.Session.layer_times`.

        A row's time is the mean, over the least disturbed of the runs, from the start of its node to that of the next
        one, less what the profiler costs: what an inference takes longer with it, divided among the nodes. Starts are
        cut to whole microseconds as durations are, but what is cut off one interval is in the next.
        """
        if not self._settings.per_layer:
            raise InputError("this session has no per-layer clocks", remedy="open it with per_layer=True")
        nodes = read_nodes(self._onnx)
        runs = max(_RUNS_LEAST, min(runs // 2, _EVENTS_MAX // (2 * len(nodes)) - _COLD_RUNS))
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            events, profiled, plain = self._profile(Path(folder), _COLD_RUNS + runs)
            optimised = read_nodes((Path(folder) / "optimised.onnx").read_bytes())
        written = {node.name: node.outputs for node in optimised}
        read = {node.name: node.inputs for node in optimised}
        each = len(events) // len(profiled)
        kernels = [(event["name"][: -len(_KERNEL_SUFFIX)], event["args"]["op_name"]) for event in events[:each]]
        counted = self._counted(profiled)
        plain_us = _median_us(plain, self._counted(plain))
        times = _less(_intervals_us(events, each)[counted].mean(axis=0), _median_us(profiled, counted) - plain_us)
        self.report.update(explained(sum(times), plain_us))
        primitives = [
            Primitive(_TOKEN.sub("", name), _float_kind(kind), written.get(name, ()), inputs=read.get(name, ()))
            for name, kind in kernels
        ]
        found = attribute(nodes, primitives)
        return [
            LayerTime(names, kind, us, served)
            for names, (_, kind), us, served in zip(found, kernels, times, behind(primitives, found))
        ]

    def _counted(self, watches: Sequence[Stopwatch]) -> list[int]:
        """Return which runs to believe, of those that are warm."""
        for watch in watches:  # where others work as well, the calling thread's processor time says nothing
            watch.ran_through |= self._settings.threads != 1
        return [_COLD_RUNS + at for at in least_disturbed(watches[_COLD_RUNS:])]

    def close(self) -> None:
        """Release the session; see `base.Session.close`."""
        self._binding = self._session = None

    def _bind(self, session: Any) -> Any:
        import onnxruntime

        binding = session.io_binding()
        for name, array in zip(self.inputs, self._arrays):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name in self.outputs:
            binding.bind_output(name)
        return binding

    def _profile(self, folder: Path, runs: int) -> tuple[list[dict[str, Any]], list[Stopwatch], list[Stopwatch]]:
        """Run a fresh session with the profiler on, and this one, in turns.

        Returns:
            The profiled one's kernel events in order of time, and a watch for each run of either.
        """
        options = _options(self._settings)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        session = _open(self._onnx, options)
        binding = self._bind(session)
        profiled: list[Stopwatch] = []
        plain: list[Stopwatch] = []
        while len(profiled) < runs:
            turn = min(_TURN, runs - len(profiled))
            profiled += [_watched(session, binding) for _ in range(turn)]
            plain += [_watched(self._session, self._binding) for _ in range(turn)]
        return _kernel_events(session.end_profiling()), profiled, plain


def _watched(session: Any, binding: Any) -> Stopwatch:
    watch = Stopwatch()
    session.run_with_iobinding(binding)
    return watch.stop()


def _median_us(watches: Sequence[Stopwatch], counted: Sequence[int]) -> float:
    return statistics.median(watches[run].wall_us for run in counted)


def _less(spent_us: Any, longer_us: float) -> list[float]:
    """Return what nodes took less what the profiler cost, which made all of them together `longer_us` longer."""
    return np.maximum(_LEAST_US, spent_us - max(0.0, longer_us) / len(spent_us)).tolist()  # type: ignore[no-any-return]


def _intervals_us(events: Sequence[Mapping[str, Any]], each: int) -> Any:
    """Return the us from every node's start to the next one's, (runs, nodes), from the events of runs of `each` nodes.

    The last node of a run has its own duration, and what lies between two nodes on average.
    """
    starts = np.array([event["ts"] for event in events], dtype=np.float64).reshape(-1, each)
    durations = np.array([event["dur"] for event in events]).reshape(-1, each) + _CUT_US
    spent = np.diff(starts, axis=1)
    between = (spent - durations[:, :-1]).mean() if each > 1 else 0.0
    return np.column_stack([spent, durations[:, -1] + between])


def _kernel_events(path: str) -> list[dict[str, Any]]:
    """Return the events of nodes in a profile, in order of time."""
    events = json.loads(Path(path).read_text())
    return [event for event in events if event["cat"] == "Node" and event["name"].endswith(_KERNEL_SUFFIX)]


def _options(settings: SessionSettings) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    if settings.threads > 1:
        options.add_session_config_entry(_STOP_SPINNING, "1")
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    return options


def _open(onnx: bytes, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(onnx, options, providers=[_PROVIDER])
    except Exception as error:
        # Its errors share no base class but Exception.
        raise InputError(
            f"ONNX Runtime cannot load the model: {str(error).strip() or type(error).__name__}",
            remedy="check the ONNX file",
        ) from None


def _read_precision(onnx: bytes, settings: SessionSettings) -> str:
    """Return what the optimised graph multiplies in: `int8` where any layer does, else `fp32`."""
    if not any(node.op_type == "DequantizeLinear" for node in read_nodes(onnx)):
        return "fp32"
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        options = _options(settings)
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        _open(onnx, options)
        kinds = {node.op_type for node in read_nodes((Path(folder) / "optimised.onnx").read_bytes())}
    return "int8" if kinds & set(_INT8_MULTIPLY) else "fp32"


def _float_kind(kind: str) -> str:
    """Return the operator that a quantized one stands for: QLinearConv is a Conv, QGemm a Gemm."""
    return re.sub(r"^(QLinear|Q(?=Gemm))", "", kind)


def _static(port: Any) -> tuple[int, ...]:
    if not all(isinstance(size, int) for size in port.shape):
        raise InputError(
            f"input {port.name!r} has no fixed shape: {port.shape}",
            remedy="export the model with static shapes, batch 1",
        )
    return tuple(port.shape)


def _numpy_name(type_name: str) -> str:
    """Return the numpy name for `tensor(float)` and its like."""
    inner = type_name[type_name.index("(") + 1 : -1]
    return np.dtype(_NUMPY_NAMES.get(inner, inner)).name
