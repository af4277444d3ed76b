"""A module `tensorrt` without TensorRT: the members of one version's bindings and no others, outputs by ONNX Runtime.

The names come from the real bindings (tensorrt_names.json; `python tools/tensorrt_types.py --write-names`). A member
that a version does not have raises AttributeError when it is read or set, as there; one that it has and that nothing
here implements raises NotImplementedError. What it does of TensorRT's rules: flags and typing by version, symmetric
Q/DQ, engines that belong to one version, fusion of Conv + Add + Relu, changes of layout as layers of their own, a
profiler that makes a run wait, timing caches, logs. What it can't say anything about: times, tactics, which graphs can
be captured.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import shape_inference

from tests.standins.cuda import Gpu
from tests.standins.engine_layers import QUANTIZING, TYPES, fused, ports, session_of, sizes, values_of

NAMES = json.loads((Path(__file__).parent / "tensorrt_names.json").read_text())
VERSIONS = ("8.5.2", *sorted(NAMES, key=lambda name: [int(part) for part in name.split(".")]))
# From the release notes of 8.6, which added them.
_NEW_IN_8_6 = ("builder_optimization_level", "max_aux_streams", "hardware_compatibility_level")


def install(version: str, gpu: Gpu, folder: Path) -> None:
    """Put a package `tensorrt` of that version into `folder`, with the metadata that pip would leave."""
    (folder / "tensorrt").mkdir(parents=True)
    (folder / "tensorrt" / "__init__.py").write_text(
        f"from tests.standins import tensorrt as standin\nglobals().update(standin.namespace({version!r}))\n"
    )
    info = folder / f"tensorrt-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {version}\n")
    Standin.gpu = gpu
    sys.modules.pop("tensorrt", None)


def namespace(version: str) -> dict[str, Any]:
    """Return the module's content for a version."""
    names = NAMES["8.6.1" if version == "8.5.2" else version]
    module = ModuleType("tensorrt")
    found: dict[str, Any] = {"__version__": version}
    for name, members in names["enums"].items():
        found[name] = type(name, (), {member: Member(name, member, number) for member, number in members.items()})
    for name, members in names["classes"].items():
        allowed = set(members.split()) - set(_NEW_IN_8_6 if version == "8.5.2" and name == "IBuilderConfig" else ())
        base = globals().get(f"Fake{name}", Standin)
        found[name] = type(name, (base,), {"_allowed": frozenset(allowed), "_version": version, "_module": module})
        for member in sorted(allowed):
            if name == "ILogger" and member.isupper():
                setattr(found[name], member, Member("Severity", member, 0))
    module.__dict__.update(found)
    return found


class Member:
    """A value of an enumeration."""

    def __init__(self, kind: str, name: str, number: int) -> None:
        self._kind, self.name, self._number = kind, name, number

    def __int__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and (self._kind, self.name) == (other._kind, other.name)

    def __hash__(self) -> int:
        return hash((self._kind, self.name))


class Standin:
    """A class of the bindings: only members of its version can be read or set."""

    gpu: Gpu
    _allowed: frozenset[str] = frozenset()
    _version = ""
    _module: Any = None

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name == "gpu":
            return object.__getattribute__(self, name)
        _check(self, name)
        if not hasattr(type(self), name) and name not in vars(self):
            raise NotImplementedError(f"the stand-in has no {type(self).__name__}.{name}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            _check(self, name)
        object.__setattr__(self, name, value)

    @property
    def _major(self) -> int:
        return int(self._version.partition(".")[0])


def _check(made: Standin, name: str) -> None:
    # What a subclass of ours adds (a logger's lists) is its own.
    ours = type(made).__module__ not in (__name__, "tensorrt")
    if not ours and name not in type(made)._allowed:
        raise AttributeError(f"{type(made).__name__!r} object of TensorRT {made._version} has no attribute {name!r}")


class FakeILogger(Standin):
    def __init__(self) -> None:
        self._ready = True


class FakeIProfiler(Standin):
    def __init__(self) -> None:
        self._ready = True


class FakeDims(Standin):
    def __init__(self, sizes: Any) -> None:
        self._sizes = list(sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, at: int) -> int:
        return self._sizes[at]


class FakeIHostMemory(bytes):
    """What the buffer protocol makes of it."""

    _allowed: frozenset[str] = frozenset()


class FakeBuilder(Standin):
    def __init__(self, logger: Any) -> None:
        if "no GPU" in self.gpu.refuses:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        assert logger._ready, "the logger's own __init__ was not called"
        self._logger = logger

    def create_network(self, flags: int = 0) -> Any:
        return self._module.INetworkDefinition(self, flags)

    def create_builder_config(self) -> Any:
        return self._module.IBuilderConfig(self)

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        problem = _problem(network, config)
        if problem:
            self._logger.log(self._module.ILogger.ERROR, problem)
            return None
        if config._cache is None:
            raise AssertionError("no timing cache was set")
        if not config._cache._content:
            self.gpu.spend(100)  # tactics are timed
        config._cache._content = b"timed " + self._version.encode()
        warning = "Skipping tactic 3 due to insufficient memory on requested size of 6594494464 detected for tactic 0x3"
        self._logger.log(self._module.ILogger.WARNING, warning)
        plan = {
            "version": self._version,
            "detailed": config.profiling_verbosity == self._module.ProfilingVerbosity.DETAILED,
            "half": not network._strong and "FP16" in config._flags,
        }
        return self._module.IHostMemory(json.dumps(plan).encode() + b"\0" + network._onnx)


def _problem(network: Any, config: Any) -> str:
    """Return why TensorRT would not build this, or nothing."""
    if network._onnx is None:
        return "Network must have at least one output"
    if network._strong and config._flags & {"FP16", "INT8", "BF16"}:
        return "precision flags can not be used with a strongly typed network"
    quantised = any(node.op_type == "QuantizeLinear" for node in network._model.graph.node)
    if not network._strong and quantised and "INT8" not in config._flags:
        return "Network has QuantizeLinear layers but INT8 is not set"
    if config._workspace > Standin.gpu.free_bytes:
        return "more workspace than there is memory"
    return ""


def _quantized_problem(model: Any, *, half: bool) -> str:
    """Return what TensorRT does not take of a model's Q/DQ nodes, or nothing."""
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in QUANTIZING:
            continue
        scale, zero = stored[node.input[1]], stored[node.input[2]]
        if zero.dtype != np.int8 or zero.any():
            return f"{node.name}: TensorRT only supports symmetric int8 quantization: zero points must be 0"
        if scale.dtype == np.float16 and not half:
            return f"{node.name}: scales must be float32"
        if (scale <= 0).any():
            return f"{node.name}: scale coefficients must all be positive"
    return ""


class FakeINetworkDefinition(Standin):
    def __init__(self, builder: Any, flags: int) -> None:
        known = vars(self._module.NetworkDefinitionCreationFlag)
        asked = {name for name, one in known.items() if isinstance(one, Member) and flags >> int(one) & 1}
        self._builder = builder
        self._strong = self._major >= 11 or "STRONGLY_TYPED" in asked
        self._explicit = self._major >= 10 or "EXPLICIT_BATCH" in asked
        self._onnx: bytes | None = None
        self._model: Any = None

    @property
    def num_inputs(self) -> int:
        return len(ports(self._model)[0])

    def get_input(self, at: int) -> Any:
        return self._tensor(ports(self._model)[0][at])

    @property
    def num_layers(self) -> int:
        return len(self._model.graph.node)

    def get_layer(self, at: int) -> Any:
        return self._module.ILayer(self, self._model.graph.node[at])

    def _tensor(self, value: Any) -> Any:
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
        tensor = self._module.ITensor()
        tensor.name = value.name
        object.__setattr__(tensor, "shape", self._module.Dims(sizes))
        object.__setattr__(tensor, "dtype", getattr(self._module.DataType, TYPES[value.type.tensor_type.elem_type]))
        return tensor


class FakeILayer(Standin):
    def __init__(self, network: Any, node: Any) -> None:
        self._network, self._node = network, node

    @property
    def num_outputs(self) -> int:
        return len(self._node.output)

    def get_output(self, at: int) -> Any:
        return self._network._tensor(values_of(self._network._model)[self._node.output[at]])


class FakeOnnxParser(Standin):
    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._errors = network, []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            found = onnx.load_model_from_string(bytes(model))
            onnx.checker.check_model(found)
        except Exception as error:
            self._errors.append(self._module.ParserError(str(error).splitlines()[0] or "no model"))
            return False
        problem = _quantized_problem(found, half=int(self._version.partition(".")[0]) >= 10)
        if problem:
            self._errors.append(self._module.ParserError(problem))
            return False
        if not self._network._explicit:
            self._errors.append(self._module.ParserError("the network was not made with EXPLICIT_BATCH"))
            return False
        self._network._onnx, self._network._model = bytes(model), shape_inference.infer_shapes(found)
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, at: int) -> Any:
        return self._errors[at]


class FakeParserError(Standin):
    def __init__(self, text: str) -> None:
        self._text = text

    def node(self) -> int:
        return 0

    def desc(self) -> str:
        return self._text


class FakeIBuilderConfig(Standin):
    def __init__(self, builder: Any) -> None:
        self._flags = {"TF32"}
        self._cache: Any = None
        self._workspace = 0
        self.profiling_verbosity = self._module.ProfilingVerbosity.LAYER_NAMES_ONLY
        for name in _NEW_IN_8_6[:2]:
            if name in self._allowed:
                setattr(self, name, 3)

    def set_flag(self, flag: Member) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Member) -> None:
        self._flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Member, size: int) -> None:
        assert (pool.name, type(size)) == ("WORKSPACE", int)
        self._workspace = size

    def create_timing_cache(self, serialized: bytes) -> Any:
        return self._module.ITimingCache(bytes(serialized))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._content not in (b"", b"timed " + self._version.encode()):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class FakeITimingCache(Standin):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> Any:
        return self._module.IHostMemory(self._content)

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        self._content = self._content or input_cache._content
        return True


class FakeRuntime(Standin):
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        header, _, model = bytes(plan).partition(b"\0")
        described = json.loads(header)
        if described["version"] != self._version:
            said = f"Version tag does not match. Current: {self._version}, serialized: {described['version']}"
            self._logger.log(self._module.ILogger.ERROR, said)
            return None
        return self._module.ICudaEngine(self, described, model)


class FakeICudaEngine(Standin):
    def __init__(self, runtime: Any, described: dict[str, Any], model: bytes) -> None:
        self._runtime, self._described = runtime, described
        self._model = shape_inference.infer_shapes(onnx.load_model_from_string(model))
        self._session = session_of(model)
        ins, outs = ports(self._model)
        self._ports = {port.name: (port, at < len(ins)) for at, port in enumerate([*ins, *outs])}
        self._layers = fused(self._model, half=described["half"], version=self._version)

    @property
    def num_io_tensors(self) -> int:
        return len(self._ports)

    def get_tensor_name(self, at: int) -> str:
        return list(self._ports)[at]

    def get_tensor_mode(self, name: str) -> Member:
        return self._module.TensorIOMode.INPUT if self._ports[name][1] else self._module.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Member:
        return getattr(self._module.DataType, TYPES[self._ports[name][0].type.tensor_type.elem_type])

    def get_tensor_shape(self, name: str) -> Any:
        return self._module.Dims(sizes(self._ports[name][0]))

    def create_execution_context(self) -> Any:
        return self._module.IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return self._module.EngineInspector(self)


class FakeEngineInspector(Standin):
    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_engine_information(self, format: Member) -> str:
        assert format.name == "JSON"
        layers = self._engine._layers
        if not self._engine._described["detailed"]:
            return json.dumps({"Layers": [layer["Name"] for layer in layers], "Bindings": []}, ensure_ascii=False)
        shown = [{key: one for key, one in layer.items() if key != "ms"} for layer in layers]
        # The real one writes its separators as they are, which no strict reader takes.
        return json.dumps({"Layers": shown, "Bindings": []}).replace("\\u001e", "\x1e").replace("\\u001f", "\x1f")


class FakeIExecutionContext(Standin):
    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self.enqueue_emits_profile = True
        self.nvtx_verbosity = self._module.ProfilingVerbosity.DETAILED
        self.profiler = None

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert self.gpu.alive.get(int(memory)) == "device memory", f"{name} is not in device memory"
        self._addresses[name] = int(memory)
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._addresses.keys() != self._engine._ports.keys():
            return False
        if self.profiler is not None and self.gpu.capturing(stream_handle):
            return False
        self.gpu.enqueue(stream_handle, self._work)
        if self.profiler is not None and self.enqueue_emits_profile:
            self.gpu.wait(stream_handle)
            for layer in self._engine._layers:
                self.profiler.report_layer_time(layer["Name"], layer["ms"])
        return True

    def _work(self) -> None:
        arrays = {name: self._array(name) for name, (_, is_input) in self._engine._ports.items() if is_input}
        names = [name for name, (_, is_input) in self._engine._ports.items() if not is_input]
        for name, found in zip(names, self._engine._session.run(names, arrays), strict=True):
            self._array(name)[...] = found
        self.gpu.spend(sum(layer["ms"] for layer in self._engine._layers) * 0.9)

    def _array(self, name: str) -> np.ndarray:
        port = self._engine._ports[name][0]
        kind = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        size = math.prod(sizes(port)) * kind.itemsize
        raw = (ctypes.c_ubyte * size).from_address(self._addresses[name])
        return np.frombuffer(raw, dtype=kind).reshape(sizes(port))
