"""A CUDA runtime without a GPU: real memory, streams that do their work late, a clock that only work moves.

Its functions are C functions made of Python ones, each with the prototype of cuda_runtime_api.h written down here once
more: a call with too few arguments, or of other types, fails as it would.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass, field
from typing import Any

INVALID_VALUE, OUT_OF_MEMORY, INVALID_HANDLE, CAPTURE_UNSUPPORTED = 1, 2, 400, 900
_ATTRIBUTES = {16: 8, 18: 1, 75: 8, 76: 7}  # an Orin: 8 multiprocessors, shared memory, compute capability 8.7
_ERRORS = {
    status: ctypes.create_string_buffer(text)
    for status, text in {1: b"invalid argument", 2: b"out of memory", 400: b"invalid handle", 0: b"unknown"}.items()
}
BYTES_PER_MS = 10_000_000

Work = Callable[[], None]


@dataclass
class Gpu:
    """What the library and TensorRT's stand-in share.

    Attributes:
        now_ms: the GPU's clock; work moves it when it is done, and it is done when somebody waits for it.
        alive: handles that were not given back, by what they are.
        refuses: functions that return this error from now on.
    """

    now_ms: float = 0.0
    free_bytes: int = 4 << 30
    alive: dict[int, str] = field(default_factory=dict)
    refuses: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _memory: dict[int, Any] = field(default_factory=dict)
    _waiting: dict[int, list[Work]] = field(default_factory=dict)
    _capturing: dict[int, list[Work]] = field(default_factory=dict)
    _graphs: dict[int, list[Work]] = field(default_factory=dict)
    _noted: dict[int, float] = field(default_factory=dict)
    _last: int = 1000

    def enqueue(self, stream: int, work: Work) -> None:
        """Put work on a stream: into the graph that is captured there, else behind what waits."""
        self._capturing.get(stream, self._waiting.setdefault(stream, [])).append(work)

    def spend(self, ms: float) -> None:
        """Let time pass."""
        self.now_ms += ms

    def wait(self, stream: int) -> int:
        """Do what waits on the stream."""
        if stream in self._capturing:
            return CAPTURE_UNSUPPORTED
        while self._waiting.get(stream):
            self._waiting[stream].pop(0)()
        return 0

    def capturing(self, stream: int) -> bool:
        """Whether what is put on the stream goes into a graph."""
        return stream in self._capturing

    def handle(self, what: str) -> int:
        self._last += 8
        self.alive[self._last] = what
        return self._last

    def allocate(self, size: int, what: str) -> int:
        memory = (ctypes.c_ubyte * size)()
        address = ctypes.addressof(memory)
        self._memory[address] = memory
        self.alive[address] = what
        return address

    def gone(self, handle: int | None, what: str) -> int:
        if self.alive.get(handle or 0) != what:
            return INVALID_HANDLE
        del self.alive[handle or 0]
        self._memory.pop(handle or 0, None)
        return 0

    def library(self) -> Any:
        """Return what ctypes.CDLL("libcudart.so") would."""
        return Library(self)


class Library:
    """The functions of libcudart, as attributes."""

    def __init__(self, gpu: Gpu) -> None:
        for name, arguments in PROTOTYPES.items():
            result = c_void_p if name == "cudaGetErrorString" else c_int
            function = CFUNCTYPE(result, *arguments)(_logged(gpu, name, getattr(Functions(gpu), name)))
            setattr(self, name, function)


def _logged(gpu: Gpu, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        gpu.calls.append(name)
        return gpu.refuses.get(name) or function(*arguments)

    return call


PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cudaGetErrorString": (c_int,),
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaRuntimeGetVersion": (POINTER(c_int),),
    "cudaDriverGetVersion": (POINTER(c_int),),
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaDeviceGetPCIBusId": (c_void_p, c_int, c_int),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaMalloc": (POINTER(c_void_p), c_size_t),
    "cudaFree": (c_void_p,),
    "cudaMallocHost": (POINTER(c_void_p), c_size_t),
    "cudaFreeHost": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreateWithFlags": (POINTER(c_void_p), c_uint),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamDestroy": (c_void_p,),
    "cudaEventCreateWithFlags": (POINTER(c_void_p), c_uint),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventSynchronize": (c_void_p,),
    "cudaEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cudaEventDestroy": (c_void_p,),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cudaGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGraphDestroy": (c_void_p,),
}


class Functions:
    """What each function does; pointers arrive as ctypes pointers, handles as integers."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def cudaGetErrorString(self, status: int) -> int:
        return ctypes.addressof(_ERRORS.get(status, _ERRORS[0]))

    def cudaGetDeviceCount(self, count: Any) -> int:
        count[0] = 1
        return 0

    def cudaRuntimeGetVersion(self, version: Any) -> int:
        version[0] = 12060
        return 0

    def cudaDriverGetVersion(self, version: Any) -> int:
        version[0] = 12080
        return 0

    def cudaDeviceGetAttribute(self, value: Any, number: int, device: int) -> int:
        if number not in _ATTRIBUTES or device:
            return INVALID_VALUE
        value[0] = _ATTRIBUTES[number]
        return 0

    def cudaDeviceGetPCIBusId(self, text: int, size: int, device: int) -> int:
        ctypes.memmove(text, b"0000:01:00.0\0", 13)
        return 0

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:
        free[0], total[0] = self._gpu.free_bytes, 8 << 30
        return 0

    def cudaMalloc(self, pointer: Any, size: int) -> int:
        if size > self._gpu.free_bytes:
            return OUT_OF_MEMORY
        pointer[0] = self._gpu.allocate(size, "device memory")
        return 0

    def cudaFree(self, memory: int) -> int:
        return self._gpu.gone(memory, "device memory")

    def cudaMallocHost(self, pointer: Any, size: int) -> int:
        pointer[0] = self._gpu.allocate(size, "host memory")
        return 0

    def cudaFreeHost(self, memory: int) -> int:
        return self._gpu.gone(memory, "host memory")

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> int:
        wanted = {1: ("device memory", "host memory"), 2: ("host memory", "device memory")}.get(kind)
        if (self._gpu.alive.get(to), self._gpu.alive.get(source)) != wanted:
            return INVALID_VALUE

        def copy() -> None:
            ctypes.memmove(to, source, size)
            self._gpu.spend(size / BYTES_PER_MS)

        self._gpu.enqueue(stream, copy)
        return 0

    def cudaStreamCreateWithFlags(self, stream: Any, flags: int) -> int:
        stream[0] = self._gpu.handle("stream")
        return 0

    def cudaStreamSynchronize(self, stream: int) -> int:
        return self._gpu.wait(stream) if self._gpu.alive.get(stream) == "stream" else INVALID_HANDLE

    def cudaStreamDestroy(self, stream: int) -> int:
        return self._gpu.gone(stream, "stream")

    def cudaEventCreateWithFlags(self, event: Any, flags: int) -> int:
        if flags & 2:  # cudaEventDisableTiming
            return INVALID_VALUE
        event[0] = self._gpu.handle("event")
        return 0

    def cudaEventRecord(self, event: int, stream: int) -> int:
        if self._gpu.alive.get(event) != "event":
            return INVALID_HANDLE
        self._gpu._noted.pop(event, None)
        self._gpu.enqueue(stream, lambda: self._gpu._noted.__setitem__(event, self._gpu.now_ms))
        return 0

    def cudaEventSynchronize(self, event: int) -> int:
        for stream in list(self._gpu._waiting):
            self._gpu.wait(stream)
        return 0 if event in self._gpu._noted else INVALID_HANDLE

    def cudaEventElapsedTime(self, ms: Any, start: int, end: int) -> int:
        if start not in self._gpu._noted or end not in self._gpu._noted:
            return 600  # cudaErrorNotReady
        ms[0] = self._gpu._noted[end] - self._gpu._noted[start]
        return 0

    def cudaEventDestroy(self, event: int) -> int:
        return self._gpu.gone(event, "event")

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> int:
        self._gpu._capturing[stream] = []
        return 0

    def cudaStreamEndCapture(self, stream: int, graph: Any) -> int:
        handle = self._gpu.handle("graph")
        self._gpu._graphs[handle] = self._gpu._capturing.pop(stream)
        graph[0] = handle
        return 0

    def cudaGraphInstantiateWithFlags(self, executable: Any, graph: int, flags: int) -> int:
        if self._gpu.alive.get(graph) != "graph":
            return INVALID_HANDLE
        handle = self._gpu.handle("executable graph")
        self._gpu._graphs[handle] = list(self._gpu._graphs[graph])
        executable[0] = handle
        return 0

    def cudaGraphLaunch(self, graph: int, stream: int) -> int:
        if self._gpu.alive.get(graph) != "executable graph":
            return INVALID_HANDLE
        for work in self._gpu._graphs[graph]:
            self._gpu.enqueue(stream, work)
        return 0

    def cudaGraphExecDestroy(self, graph: int) -> int:
        return self._gpu.gone(graph, "executable graph")

    def cudaGraphDestroy(self, graph: int) -> int:
        return self._gpu.gone(graph, "graph")
