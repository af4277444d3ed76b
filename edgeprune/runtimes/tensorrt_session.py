"""A TensorRT engine with its context, buffers and captured graph, ready to infer."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from edgeprune.errors import DeviceError, InputError
from edgeprune.runtimes import tensorrt_layers as told
from edgeprune.runtimes.base import LayerTime, SessionSettings
from edgeprune.runtimes.cudart import CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS, Cuda
from edgeprune.runtimes.onnxgraph import read_nodes
from edgeprune.runtimes.tensorrt_build import described, make_log, sizes
from edgeprune.runtimes.tensorrt_plans import Kept

if TYPE_CHECKING:
    import tensorrt as trt

_TRIAL_RUNS = 50
_WARM_RUNS = 20
_NUMPY_NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


class TensorRTSession:
    """An engine loaded on the first GPU; see `base.Session`."""

    def __init__(self, onnx: bytes, kept: Kept, settings: SessionSettings, cuda: Cuda) -> None:
        self._settings = settings
        self._cuda = cuda
        self._nodes = read_nodes(onnx)
        self._log = make_log()
        self._engine: Optional[trt.ICudaEngine] = None
        self._context: Optional[trt.IExecutionContext] = None
        self._graph = 0
        self._buffers: Dict[str, _Buffer] = {}
        self._made = contextlib.ExitStack()
        try:
            self._load(kept)
        except BaseException:
            self.close()
            raise

    def _load(self, kept: Kept) -> None:
        """Make everything that an inference needs; `_made` has how each is given back."""
        cuda, settings = self._cuda, self._settings
        self._runtime, engine = _loaded(kept.built.plan, self._log)
        self._engine = engine
        self._layers = _inspected(engine)
        for name in _tensor_names(engine):
            self._buffers[name] = _Buffer(cuda, engine, name, self._made)
        self._context = self._new_context(engine)
        self._made.callback(setattr, self, "_context", None)
        self._stream = cuda.stream()
        self._made.callback(cuda.destroy, stream=self._stream)
        self._start, self._end = cuda.event(), cuda.event()
        self._made.callback(cuda.destroy, event=self._start)
        self._made.callback(cuda.destroy, event=self._end)
        ins = [name for name, one in self._buffers.items() if one.is_input]
        self.inputs = {name: self._buffers[name].shape for name in ins}
        self.input_types = {name: self._buffers[name].numpy_type for name in ins}
        self.outputs = [name for name in self._buffers if name not in ins]
        graph = self._capture(self._context)
        self._made.callback(cuda.destroy, graph=self._graph)
        self._made.callback(cuda.synchronize, self._stream)
        self.properties = {
            **told.precision_of(self._layers, settings.precision),
            "threads": "1",
            "streams": "1",
            "device": "GPU",
            "compute_capability": capability(cuda),
            "multiprocessors": str(cuda.attribute(MULTIPROCESSORS)),
            "cuda": " driver ".join(cuda.versions()),
            "cuda_graph": graph,
            "copies": "in" if settings.copies else "out",
            **described(settings.precision, kept.built.typing),
        }
        self.report = dict(kept.report)

    def bind(self, arrays: Sequence[Any]) -> None:
        """Copy the inputs into page-locked memory, and to the GPU; see `base.Session.bind`."""
        for name, array in zip(self.inputs, arrays):
            self._buffers[name].host_array()[...] = np.asarray(array, dtype=self._buffers[name].numpy_type)
        self._copy_in()
        self._cuda.synchronize(self._stream)

    def infer(self) -> Optional[float]:
        """Run one inference; see `base.Session.infer`."""
        if self._settings.copies:
            self._copy_in()
            self._enqueue()
            self._copy_out()
            self._cuda.synchronize(self._stream)
            return None
        return self._timed_ms()

    def run(self, arrays: Sequence[Any]) -> List[Any]:
        """Infer on `arrays`; see `base.Session.run`."""
        self.bind(arrays)
        self._enqueue()
        self._copy_out()
        self._cuda.synchronize(self._stream)
        return [np.array(self._buffers[name].host_array()) for name in self.outputs]

    def layer_times(self, runs: int) -> List[LayerTime]:
        """Time every layer in a context of its own, with the profiler; see `base.Session.layer_times`."""
        if not self._settings.per_layer:
            raise InputError("this session has no per-layer clocks", remedy="open it with per_layer=True")
        assert self._engine is not None, "the session is closed"
        context = self._new_context(self._engine)
        profiler = make_profiler()
        context.profiler = profiler
        for run in range(_WARM_RUNS + runs):
            profiler.start(counts=run >= _WARM_RUNS)
            # With a profiler this waits, and reports when it is done (enqueue_emits_profile is true by default).
            self._execute(context)
            self._cuda.synchronize(self._stream)
        found = told.rows(self._layers, told.medians(profiler.runs), self._nodes)
        engine_us = statistics.median(self._timed_ms() for _ in range(_TRIAL_RUNS)) * 1e3
        self.report.update(told.shares(found), engine_us=f"{engine_us:.1f}")
        return found

    def gpu_ms(self, runs: int) -> float:
        """Return the median of the GPU's own time of one inference, copies out."""
        for _ in range(_WARM_RUNS):
            self._timed_ms()
        return statistics.median(self._timed_ms() for _ in range(runs))

    def close(self) -> None:
        """Release everything, what was made last first; see `base.Session.close`."""
        self._made.close()
        self._engine = None

    def _new_context(self, engine: trt.ICudaEngine) -> trt.IExecutionContext:
        import tensorrt as trt

        context = engine.create_execution_context()
        if context is None:
            raise DeviceError(
                f"the engine gets no context: {self._log.last_error()}", remedy="free memory on the device"
            )
        # The layers' names stay out of each launch: they cost the host time.
        context.nvtx_verbosity = trt.ProfilingVerbosity.NONE
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, buffer.device):
                raise DeviceError(f"tensor {name!r} gets no memory: {self._log.last_error()}", remedy="try again")
        return context

    def _capture(self, context: trt.IExecutionContext) -> str:
        """Capture the network into a graph where that can be done; return `on`, or why it is off."""
        self._execute(context)  # once before: TensorRT does on the first run what no graph may hold
        self._cuda.synchronize(self._stream)
        try:
            self._graph = self._cuda.capture(self._stream, lambda: self._execute(context))
        except DeviceError as error:
            return f"off: {error.message}"
        return "on"

    def _execute(self, context: trt.IExecutionContext) -> None:
        if not context.execute_async_v3(self._stream):
            raise DeviceError(f"TensorRT did not run: {self._log.last_error()}", remedy="restart the device")

    def _enqueue(self) -> None:
        assert self._context is not None, "the session is closed"
        if self._graph:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._execute(self._context)

    def _timed_ms(self) -> float:
        self._cuda.record(self._start, self._stream)
        self._enqueue()
        self._cuda.record(self._end, self._stream)
        return self._cuda.elapsed_ms(self._start, self._end)

    def _copy_in(self) -> None:
        for name in self.inputs:
            buffer = self._buffers[name]
            self._cuda.copy_to_device(buffer.device, buffer.host, buffer.size, self._stream)

    def _copy_out(self) -> None:
        for name in self.outputs:
            buffer = self._buffers[name]
            self._cuda.copy_to_host(buffer.host, buffer.device, buffer.size, self._stream)


class _Buffer:
    """A tensor's memory, on the device and page-locked on the host; `made` gets how both are given back."""

    def __init__(self, cuda: Cuda, engine: trt.ICudaEngine, name: str, made: contextlib.ExitStack) -> None:
        import tensorrt as trt

        kind = engine.get_tensor_dtype(name).name
        if kind not in _NUMPY_NAMES:
            raise InputError(f"tensor {name!r} is of type {kind}", remedy="export the model with float32 inputs")
        self.numpy_type = _NUMPY_NAMES[kind]
        self.shape = sizes(engine.get_tensor_shape(name))
        self.is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        self.size = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.numpy_type).itemsize
        self.device = cuda.allocate(self.size)
        made.callback(cuda.free, self.device)
        self.host = cuda.allocate_host(self.size)
        made.callback(cuda.free_host, self.host)

    def host_array(self) -> Any:
        """Return the host's memory as an array that shares it."""
        raw = memoryview((ctypes.c_ubyte * self.size).from_address(self.host))
        return np.frombuffer(raw, dtype=self.numpy_type).reshape(self.shape)


def make_profiler() -> Any:
    """Return a profiler that keeps (layer, us) of every run that counts."""
    import tensorrt as trt

    class Profiler(trt.IProfiler):
        """What TensorRT reports after each run, in execution order."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.runs: List[List[Tuple[str, float]]] = []
            self._current: List[Tuple[str, float]] = []

        def start(self, *, counts: bool) -> None:
            self._current = []
            if counts:
                self.runs.append(self._current)

        def report_layer_time(self, layer_name: str, ms: Any) -> None:
            self._current.append((layer_name, float(ms) * 1e3))

    return Profiler()


def _loaded(plan: bytes, log: Any) -> Tuple[trt.Runtime, trt.ICudaEngine]:
    import tensorrt as trt

    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise DeviceError(
            f"TensorRT {trt.__version__} cannot load the engine: {log.last_error()}",
            remedy="build it again on this device: an engine belongs to one TensorRT and one kind of GPU",
        )
    return runtime, engine


def _inspected(engine: trt.ICudaEngine) -> List[told.EngineLayer]:
    import tensorrt as trt

    inspector = engine.create_engine_inspector()
    return told.read_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _tensor_names(engine: trt.ICudaEngine) -> List[str]:
    return [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]


def capability(cuda: Cuda) -> str:
    """Return the GPU's compute capability, such as 8.7 for an Orin."""
    return f"{cuda.attribute(CAPABILITY_MAJOR)}.{cuda.attribute(CAPABILITY_MINOR)}"
