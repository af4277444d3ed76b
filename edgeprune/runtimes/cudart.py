"""The CUDA runtime through ctypes: device memory, streams, events and graphs, with neither torch nor pycuda.

Only functions whose prototype is the same from CUDA 11.4 to 13 are called (cuda_runtime_api.h): so no
cudaGetDeviceProperties, whose structure differs by version, and cudaGraphInstantiateWithFlags, because
cudaGraphInstantiate changed its arguments in CUDA 12.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

from edgeprune.errors import DeviceError, MissingError

MULTIPROCESSORS, INTEGRATED, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 18, 75, 76

_TO_DEVICE, _TO_HOST = 1, 2
_CAPTURE_THREAD_LOCAL = 1
_NO_DEVICE = {
    35: "its driver is older than this CUDA",
    100: "there is no CUDA device",
    999: "the driver does not answer",
}
_NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib")
_PROTOTYPES = {
    "cudaGetErrorString": (c_int,),
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaRuntimeGetVersion": (POINTER(c_int),),
    "cudaDriverGetVersion": (POINTER(c_int),),
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaDeviceGetPCIBusId": (c_char_p, c_int, c_int),
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
_NON_BLOCKING = 1


class Cuda:
    """The CUDA runtime of this process; a handle (memory, stream, event, graph) is an integer.

    Args:
        library: a loaded libcudart; found by itself when None.

    Raises:
        MissingError: no libcudart, or no device that it can use.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = load_library() if library is None else library
        for name, arguments in _PROTOTYPES.items():
            try:
                function = getattr(self._library, name)
            except AttributeError:
                raise MissingError(
                    f"the CUDA runtime here has no {name}: it is older than 11.4", remedy="install CUDA 11.4 or newer"
                ) from None
            function.argtypes = list(arguments)
            function.restype = c_char_p if name == "cudaGetErrorString" else c_int
        self._int("cudaGetDeviceCount")

    def versions(self) -> Tuple[str, str]:
        """Return the versions of the CUDA runtime and of the newest CUDA that the driver supports."""
        return _version(self._int("cudaRuntimeGetVersion")), _version(self._int("cudaDriverGetVersion"))

    def attribute(self, number: int) -> int:
        """Return an attribute of the first device, by its number in cudaDeviceAttr."""
        value = c_int()
        self._call("cudaDeviceGetAttribute", byref(value), number, 0)
        return value.value

    def bus_id(self) -> str:
        """Return where the first device sits, such as `0000:65:00.0`: a name that NVIDIA's other libraries share."""
        text = ctypes.create_string_buffer(32)
        self._call("cudaDeviceGetPCIBusId", text, len(text), 0)
        return text.value.decode()

    def free_bytes(self) -> int:
        """Return the free device memory; on a board that shares its memory, the system's free memory."""
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", byref(free), byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """Return device memory of `size` bytes."""
        return self._handle("cudaMalloc", max(size, 1))

    def allocate_host(self, size: int) -> int:
        """Return page-locked host memory of `size` bytes: copies from other memory are not asynchronous."""
        return self._handle("cudaMallocHost", max(size, 1))

    def free(self, memory: int) -> None:
        """Release device memory."""
        self._call("cudaFree", memory)

    def free_host(self, memory: int) -> None:
        """Release host memory."""
        self._call("cudaFreeHost", memory)

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Enqueue a copy of `size` bytes."""
        self._call("cudaMemcpyAsync", device, host, size, _TO_DEVICE, stream)

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Enqueue a copy of `size` bytes."""
        self._call("cudaMemcpyAsync", host, device, size, _TO_HOST, stream)

    def stream(self) -> int:
        """Make a stream that does not wait for the default one."""
        return self._handle("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def synchronize(self, stream: int) -> None:
        """Wait until everything on the stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def event(self) -> int:
        """Make an event that keeps the time."""
        return self._handle("cudaEventCreateWithFlags", 0)

    def record(self, event: int, stream: int) -> None:
        """Enqueue: note the time."""
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Wait for `end`; return the ms between two events, to half a microsecond."""
        self._call("cudaEventSynchronize", end)
        ms = c_float()
        self._call("cudaEventElapsedTime", byref(ms), start, end)
        return ms.value

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Return the executable graph of what `work` enqueues on the stream, which is not executed.

        Raises:
            DeviceError: something in it can't be captured.
        """
        self._call("cudaStreamBeginCapture", stream, _CAPTURE_THREAD_LOCAL)
        graph, executable = c_void_p(), c_void_p()
        try:
            try:
                work()
            except BaseException:
                with contextlib.suppress(DeviceError):  # leaves the stream usable; the graph is of no use
                    self._call("cudaStreamEndCapture", stream, byref(graph))
                raise
            self._call("cudaStreamEndCapture", stream, byref(graph))
            self._call("cudaGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            if graph:
                self._call("cudaGraphDestroy", graph)
        return int(executable.value or 0)

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy(self, *, stream: int = 0, event: int = 0, graph: int = 0) -> None:
        """Release handles; 0 stands for none."""
        for name, handle in (
            ("cudaGraphExecDestroy", graph),
            ("cudaEventDestroy", event),
            ("cudaStreamDestroy", stream),
        ):
            if handle:
                self._call(name, handle)

    def _int(self, name: str) -> int:
        value = c_int()
        self._call(name, byref(value))
        return value.value

    def _handle(self, name: str, *arguments: Any) -> int:
        handle = c_void_p()
        self._call(name, byref(handle), *arguments)
        return int(handle.value or 0)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status in _NO_DEVICE:
            raise MissingError(
                f"no NVIDIA GPU can be used: {_NO_DEVICE[status]} ({name} returned {status})",
                remedy="install NVIDIA's driver for this GPU; nvidia-smi shows whether it works",
            )
        if status:
            text = (self._library.cudaGetErrorString(status) or b"").decode()
            raise DeviceError(
                f"{name} returned {status}: {text}",
                remedy="free the GPU's memory if that is what is short; else restart the device",
            )


def load_library() -> Any:
    """Load libcudart: the one of NVIDIA's Python packages, or the system's.

    Raises:
        MissingError: there is none.
    """
    for path in _candidates():
        with contextlib.suppress(OSError):
            return ctypes.CDLL(path)
    raise MissingError(
        "the CUDA runtime (libcudart.so) is not there",
        remedy="pip install 'edgeprune[tensorrt]', or on a Jetson: sudo apt install nvidia-jetpack",
    )


def _candidates() -> Iterator[str]:
    spec: Optional[Any] = importlib.util.find_spec("nvidia")
    packaged: List[str] = []
    for folder in (spec.submodule_search_locations or []) if spec else []:
        packaged += [str(path) for path in sorted(Path(folder).glob("*/lib/libcudart.so.*"), reverse=True)]
    yield from packaged
    yield from _NAMES
    for folder in _FOLDERS:
        yield from (f"{folder}/{name}" for name in _NAMES)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
