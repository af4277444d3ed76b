from __future__ import annotations

import ctypes
import gc

import pytest

from edgeprune.errors import DeviceError, MissingError
from edgeprune.runtimes import cudart
from edgeprune.runtimes.cudart import CAPABILITY_MAJOR, INTEGRATED, Cuda
from tests.standins.cuda import BYTES_PER_MS, Gpu


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def cuda(gpu: Gpu) -> Cuda:
    return Cuda(gpu.library())


def test_reads_the_device(cuda: Cuda) -> None:
    assert cuda.versions() == ("12.6", "12.8")
    assert (cuda.attribute(CAPABILITY_MAJOR), cuda.attribute(INTEGRATED)) == (8, 1)
    assert cuda.free_bytes() == 4 << 30


def test_bytes_go_there_and_back(gpu: Gpu, cuda: Cuda) -> None:
    host, device, stream = cuda.allocate_host(4), cuda.allocate(4), cuda.stream()
    ctypes.memmove(host, b"abcd", 4)
    cuda.copy_to_device(device, host, 4, stream)
    cuda.synchronize(stream)
    ctypes.memset(host, 0, 4)
    cuda.copy_to_host(host, device, 4, stream)
    assert ctypes.string_at(host, 4) == b"\0\0\0\0"  # it has not been waited for
    cuda.synchronize(stream)
    assert ctypes.string_at(host, 4) == b"abcd"
    cuda.free(device)
    cuda.free_host(host)
    cuda.destroy(stream=stream)
    assert not gpu.alive


def test_events_tell_what_lies_between(cuda: Cuda) -> None:
    host, device, stream = cuda.allocate_host(1000), cuda.allocate(1000), cuda.stream()
    start, end = cuda.event(), cuda.event()
    cuda.record(start, stream)
    cuda.copy_to_device(device, host, 1000, stream)
    cuda.record(end, stream)
    assert cuda.elapsed_ms(start, end) == pytest.approx(1000 / BYTES_PER_MS)


def test_a_captured_graph_runs_when_it_is_launched(gpu: Gpu, cuda: Cuda) -> None:
    stream, done = cuda.stream(), []
    graph = cuda.capture(stream, lambda: gpu.enqueue(stream, lambda: done.append(1)))
    cuda.synchronize(stream)
    assert done == []
    cuda.launch(graph, stream)
    cuda.launch(graph, stream)
    cuda.synchronize(stream)
    assert done == [1, 1]


def test_what_fails_while_captured_leaves_the_stream_usable(gpu: Gpu, cuda: Cuda) -> None:
    stream = cuda.stream()
    with pytest.raises(DeviceError, match="cudaStreamSynchronize returned 900"):
        cuda.capture(stream, lambda: cuda.synchronize(stream))
    cuda.synchronize(stream)


def test_out_of_memory_is_said(cuda: Cuda) -> None:
    with pytest.raises(DeviceError, match="cudaMalloc returned 2: out of memory") as caught:
        cuda.allocate(5 << 30)
    assert "memory" in caught.value.remedy


@pytest.mark.parametrize("status", [35, 100])
def test_without_a_gpu_there_is_nothing_to_start(gpu: Gpu, status: int) -> None:
    gpu.refuses["cudaGetDeviceCount"] = status
    with pytest.raises(MissingError, match=f"no NVIDIA GPU can be used: .*{status}"):
        Cuda(gpu.library())


def test_a_library_that_is_too_old_is_said_to_be() -> None:
    with pytest.raises(MissingError, match=r"no cuda.* older than 11\.4"):
        Cuda(object())


def test_without_a_library_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudart, "_candidates", lambda: iter(["/nowhere/libcudart.so.12"]))
    with pytest.raises(MissingError, match="libcudart") as caught:
        Cuda()
    assert "pip install" in caught.value.remedy


def test_a_call_with_too_few_arguments_fails_as_in_c(gpu: Gpu) -> None:
    with pytest.raises(TypeError):
        gpu.library().cudaMalloc(8)
    gc.collect()
