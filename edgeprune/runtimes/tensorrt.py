"""TensorRT on an NVIDIA GPU, through its Python bindings, or through trtexec where these are missing.

No one has run this on a board yet: it is checked against the bindings' own API (8.6 to 11.4), and run against a
stand-in that has their members and no others. Facts that this file rests on:
  - times: without a graph the host needs longer to enqueue a small network than the GPU to compute it, so the network
    is captured into a CUDA graph once and launched as one; by the contract the number is the host's, copies included,
    and without `copies` it is that of two CUDA events around the launch;
  - with an IProfiler attached every layer is waited for: that is another run, in another context, and its sum is not
    the engine's time;
  - near ties between tactics are decided by noise, so two builds differ: what is shipped is the best of several.
"""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING, List

from edgeprune.errors import InputError
from edgeprune.runtimes.base import Session, SessionSettings
from edgeprune.runtimes.cudart import Cuda
from edgeprune.runtimes.onnxgraph import read_nodes
from edgeprune.runtimes.tensorrt_build import Built, build
from edgeprune.runtimes.tensorrt_plans import Kept, PlanCache, TimingCache
from edgeprune.runtimes.tensorrt_session import TensorRTSession, capability
from edgeprune.runtimes.trtexec import Trtexec, TrtexecSession

if TYPE_CHECKING:
    from pathlib import Path

PRECISIONS = ("fp32", "fp16", "int8")
BUILDS = 3
_TRIAL_RUNS = 50
_PLANS = PlanCache()


class TensorRT:
    """The runtime `tensorrt`, on the first GPU."""

    name = "tensorrt"

    def version(self) -> str:
        """Return TensorRT's version."""
        if not has_bindings():
            return Trtexec().version()
        import tensorrt as trt

        return str(trt.__version__)

    def open(self, onnx: bytes, settings: SessionSettings) -> Session:
        """Build and load `onnx`; see `base.Runtime.open`. A model built before in this process is not built again."""
        check(onnx, settings)
        kept = _PLANS.get(onnx, settings.precision)
        if not has_bindings():
            session = TrtexecSession(onnx, settings, kept.built.plan if kept else None)
            session.report = _keep_file(onnx, settings, session).report if kept is None else dict(kept.report)
            return session
        cuda = Cuda()
        return TensorRTSession(onnx, kept or _build_once(onnx, settings, cuda), settings, cuda)

    def save_engine(self, onnx: bytes, folder: Path, settings: SessionSettings) -> List[Path]:
        """Build several engines and write the fastest, named after the TensorRT and the GPU that it belongs to.

        What `open` opens for this model from now on, in this process, is that engine.
        """
        check(onnx, settings)
        folder.mkdir(parents=True, exist_ok=True)
        cuda = Cuda()
        if has_bindings():
            best = _build_several(onnx, settings, cuda)
        else:
            with contextlib.closing(TrtexecSession(onnx, settings, builds=BUILDS)) as session:
                best = _keep_file(onnx, settings, session)
        _PLANS.ship(onnx, settings.precision)
        path = folder / f"model-trt{self.version()}-sm{capability(cuda).replace('.', '')}.plan"
        path.write_bytes(best.built.plan)
        return [path]


def has_bindings() -> bool:
    """Say whether TensorRT's Python module is there; trtexec does where it is not."""
    return importlib.util.find_spec("tensorrt") is not None


def check(onnx: bytes, settings: SessionSettings) -> None:
    """Refuse what TensorRT can't be asked for.

    Raises:
        InputError: another precision, or another one than the model's where one of the two is int8 (trtexec would
            invent scales); or several threads: one starts the work, and the GPU does it.
    """
    if settings.precision not in PRECISIONS:
        raise InputError(
            f"TensorRT does not run {settings.precision!r} here", remedy=f"use one of {', '.join(PRECISIONS)}"
        )
    if settings.threads != 1:
        raise InputError(f"TensorRT does not use {settings.threads} threads of the host", remedy="use --threads 1")
    quantized = any(node.op_type == "QuantizeLinear" for node in read_nodes(onnx))
    if quantized and settings.precision != "int8":
        raise InputError(f"the model is int8, not {settings.precision}", remedy="use --precision int8")
    if settings.precision == "int8" and not quantized:
        raise InputError(
            "the model is not int8: it has no QuantizeLinear nodes",
            remedy="export it with --precision int8, or use --precision fp16",
        )


def _build_once(onnx: bytes, settings: SessionSettings, cuda: Cuda) -> Kept:
    """Build once, with what earlier builds on this device have timed."""
    timings = TimingCache(TensorRT().version(), cuda)
    built = build(onnx, settings.precision, cuda, timings.read())
    timings.write(built.timing_cache)
    return _PLANS.keep(onnx, settings.precision, Kept(built, {"builds": "1", "tactics_skipped": str(built.skipped)}))


def _build_several(onnx: bytes, settings: SessionSettings, cuda: Cuda) -> Kept:
    """Build several times, all but the first without what earlier builds have timed; keep the fastest.

    Near ties between tactics are decided afresh by each, so their spread says how much of a number is luck.
    """
    timings = TimingCache(TensorRT().version(), cuda)
    tried = []
    for number in range(BUILDS):
        built = build(onnx, settings.precision, cuda, b"" if number else timings.read())
        with contextlib.closing(TensorRTSession(onnx, Kept(built, {}), settings, cuda)) as session:
            tried.append((session.gpu_ms(_TRIAL_RUNS), built))
    times = [ms for ms, _ in tried]
    _, best = min(tried, key=lambda one: one[0])
    timings.add(best.timing_cache)
    report = {
        "builds": str(BUILDS),
        "builds_gpu_ms": " ".join(f"{ms:.4f}" for ms in times),
        "builds_spread": f"{max(times) / min(times) - 1:.1%}",
        "tactics_skipped": str(best.skipped),
    }
    return _PLANS.keep(onnx, settings.precision, Kept(best, report))


def _keep_file(onnx: bytes, settings: SessionSettings, session: TrtexecSession) -> Kept:
    """Keep the engine that trtexec built."""
    return _PLANS.keep(onnx, settings.precision, Kept(Built(session.plan()), session.report))
