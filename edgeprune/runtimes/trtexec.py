"""TensorRT through its program trtexec, for devices without the Python bindings.

trtexec changed its defaults (samples/common/sampleOptions.cpp, sampleInference.cpp): up to 10 it copies inputs and
outputs, launches layer by layer and waits asleep; 11 copies nothing, uses a CUDA graph and waits awake. So each of
these is asked for in the words of its version, and a number means the same on all of them: with a graph, awake, and
with copies where the target says so. Two inferences are in flight at a time, which hides the launch: on an idle GPU
one alone takes longer, by some ten microseconds. The session's properties say that trtexec measured.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from edgeprune.errors import DeviceError, InputError, MissingError
from edgeprune.runtimes import tensorrt_layers as told
from edgeprune.runtimes.base import LayerTime, SessionSettings
from edgeprune.runtimes.cudart import Cuda
from edgeprune.runtimes.onnxgraph import read_nodes
from edgeprune.runtimes.onnxports import read_ports
from edgeprune.runtimes.registry import find_record
from edgeprune.runtimes.tensorrt_build import LEVEL, TIMINGS, described, workspace_bytes

PLACES = find_record("tensorrt").commands

_BANNER = re.compile(r"\[TensorRT v(\d+)\]")
_ERROR = re.compile(r"\[E\] (.*)")
_LIMIT_S = 1800.0
_ITERATIONS = 100
_DURATION_S = 1
_WARM_MS = 200
_PRECISIONS = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8", "--fp16")}
_ONCE = ("--iterations=1", "--duration=0", "--warmUp=0")

Number = Tuple[int, int, int]


class Trtexec:
    """The program and its version.

    Raises:
        MissingError: it is not there.
    """

    def __init__(self, program: Optional[str] = None) -> None:
        found = program or next(filter(None, map(shutil.which, PLACES)), None)
        if found is None:
            raise MissingError(
                "neither TensorRT's Python module nor trtexec is there",
                remedy="on a Jetson: sudo apt install python3-libnvinfer, or libnvinfer-bin for trtexec",
            )
        self._program = found
        self._number: Optional[Number] = None

    @property
    def number(self) -> Number:
        """The version, as three numbers, from the first line of a run that has nothing to do."""
        if self._number is None:
            self._number = version_of(self._output("--onnx=/dev/null"))
        return self._number

    def version(self) -> str:
        """Return TensorRT's version."""
        return ".".join(map(str, self.number))

    def run(self, *arguments: str) -> None:
        """Run it to its end.

        Raises:
            DeviceError: it failed, with its own last error.
        """
        output, code = self._finished(*arguments)
        if code:
            said = _ERROR.findall(output)
            reason = said[-1] if said else f"it ended with code {code}"
            raise DeviceError(f"trtexec failed: {reason}", remedy="free memory on the device; check the model")

    def _output(self, *arguments: str) -> str:
        return self._finished(*arguments)[0]

    def _finished(self, *arguments: str) -> Tuple[str, int]:
        try:
            done = subprocess.run(
                [self._program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            raise DeviceError(f"trtexec did not end within {_LIMIT_S:g} s", remedy="use a smaller model") from None
        return done.stdout.decode(errors="replace"), done.returncode


def version_of(output: str) -> Number:
    """Return the version from trtexec's first line: `v8503` is 8.5.3, `v101602` is 10.16.2.

    Raises:
        DeviceError: it says none.
    """
    found = _BANNER.search(output)
    if found is None:
        raise DeviceError("trtexec does not say its version", remedy="install the trtexec of the device's TensorRT")
    number = int(found.group(1))
    thousands = 1000 if number < 10_000 else 10_000
    return number // thousands, number % thousands // 100, number % 100


def build_flags(version: Number, precision: str, workspace_mib: int) -> List[str]:
    """Return what an engine is built with: the same as through the Python bindings."""
    flags = ["--profilingVerbosity=detailed", f"--avgTiming={TIMINGS}"]
    if workspace_mib:
        flags.append(f"--memPoolSize=workspace:{workspace_mib}")
    if version >= (8, 6, 0):
        flags += [f"--builderOptimizationLevel={LEVEL}", "--maxAuxStreams=0", "--skipInference"]
    else:
        flags.append("--buildOnly")
    if precision == "fp32":
        flags.append("--noTF32")
    if version < (10, 0, 0):
        return flags + list(_PRECISIONS[precision])
    return flags + (["--stronglyTyped"] if version < (11, 0, 0) else [])


def timing_flags(version: Number, *, copies: bool) -> List[str]:
    """Return what makes a number mean the same on all versions: a graph, waiting awake, and copies or none."""
    if version >= (11, 0, 0):
        return ["--includeDataTransfers"] if copies else []
    return ["--useCudaGraph", "--useSpinWait", *([] if copies else ["--noDataTransfers"])]


def profile_flags(version: Number) -> List[str]:
    """Return what keeps the per-layer clocks in a run of their own."""
    return [] if version >= (11, 0, 0) else ["--separateProfileRun"]


def read_times(text: str, *, copies: bool) -> List[float]:
    """Return the ms of every inference from the JSON of `--exportTimes`: all of it, or the computing alone."""
    key = "latencyMs" if copies else "computeMs"
    return [float(row[key]) for row in json.loads(text)]


class TrtexecSession:
    """An engine as a file, which each call hands to trtexec; see `base.Session`."""

    def __init__(self, onnx: bytes, settings: SessionSettings, plan: Optional[bytes] = None, builds: int = 1) -> None:
        self._trtexec = Trtexec()
        self._settings = settings
        self._nodes = read_nodes(onnx)
        inputs, outputs = read_ports(onnx)
        self._shapes = {name: port.shape for name, port in outputs.items()}
        self.inputs = {name: port.shape for name, port in inputs.items()}
        self.input_types = {name: port.numpy_type for name, port in inputs.items()}
        self.outputs = list(outputs)
        self._samples_ms: List[float] = []
        self._given = ""
        self._scratch = tempfile.TemporaryDirectory(prefix="edgeprune-trtexec-")
        self._folder: Optional[Path] = Path(self._scratch.name)
        try:
            self.report: Dict[str, str] = {}
            if plan is None:
                self.report = self._build(onnx, builds)
            else:
                self._path("engine.plan").write_bytes(plan)
            layers, _ = self._profiled(1)
            self.properties = {
                **told.precision_of(layers, settings.precision),
                "threads": "1",
                "streams": "1",
                "device": "GPU",
                "measured_by": "trtexec",
                "copies": "in" if settings.copies else "out",
                **described(settings.precision, "strong" if self._trtexec.number >= (10, 0, 0) else "weak"),
            }
        except BaseException:
            self.close()
            raise

    def bind(self, arrays: Sequence[Any]) -> None:
        """Write the inputs where trtexec reads them; see `base.Session.bind`."""
        given = []
        for at, (name, array) in enumerate(zip(self.inputs, arrays)):
            path = self._path(f"input_{at}.bin")
            path.write_bytes(np.ascontiguousarray(array, dtype=self.input_types[name]).tobytes())
            given.append(f"{name}:{path}")
        self._given = "--loadInputs=" + ",".join(given)

    def infer(self) -> Optional[float]:
        """Return the ms of one more inference; trtexec runs whenever there is none left."""
        if not self._samples_ms:
            self._samples_ms = self._timed(self._path("engine.plan"), _ITERATIONS)
        return self._samples_ms.pop()

    def run(self, arrays: Sequence[Any]) -> List[Any]:
        """Infer on `arrays`; see `base.Session.run`."""
        self.bind(arrays)
        path = self._path("outputs.json")
        moved = timing_flags(self._trtexec.number, copies=True)
        self._trtexec.run(
            f"--loadEngine={self._path('engine.plan')}", self._given, f"--exportOutput={path}", *_ONCE, *moved
        )
        found = {row["name"]: row["values"] for row in json.loads(path.read_text(errors="replace"), strict=False)}
        return [np.array(found[name], dtype=np.float32).reshape(self._shapes[name]) for name in self.outputs]

    def layer_times(self, runs: int) -> List[LayerTime]:
        """Time every layer in a run of its own; see `base.Session.layer_times`."""
        if not self._settings.per_layer:
            raise InputError("this session has no per-layer clocks", remedy="open it with per_layer=True")
        layers, profile = self._profiled(runs)
        found = told.rows(layers, profile, self._nodes)
        self.report.update(told.shares(found))
        return found

    def plan(self) -> bytes:
        """Return the engine."""
        return self._path("engine.plan").read_bytes()

    def close(self) -> None:
        """Remove the files; see `base.Session.close`."""
        self._folder = None
        self._scratch.cleanup()

    def _path(self, name: str) -> Path:
        if self._folder is None:
            raise InputError("this session is closed", remedy="open another")
        return self._folder / name

    def _build(self, onnx: bytes, builds: int) -> Dict[str, str]:
        """Build several times and keep the fastest; return what is to be known of that."""
        model = self._path("model.onnx")
        model.write_bytes(onnx)
        flags = build_flags(self._trtexec.number, self._settings.precision, _workspace_mib())
        times: List[float] = []
        for number in range(builds):
            plan = self._path(f"engine-{number}.plan")
            self._trtexec.run(f"--onnx={model}", f"--saveEngine={plan}", *flags)
            if builds > 1:
                ordered = sorted(self._timed(plan, _ITERATIONS))
                times.append(ordered[len(ordered) // 2])
        best = times.index(min(times)) if times else 0
        self._path(f"engine-{best}.plan").replace(self._path("engine.plan"))
        if not times:
            return {"builds": str(builds)}
        return {
            "builds": str(builds),
            "builds_ms": " ".join(f"{ms:.4f}" for ms in times),
            "builds_spread": f"{max(times) / min(times) - 1:.1%}",
        }

    def _timed(self, plan: Path, iterations: int) -> List[float]:
        path = self._path("times.json")
        copies = self._settings.copies
        self._trtexec.run(
            f"--loadEngine={plan}",
            f"--exportTimes={path}",
            f"--iterations={iterations}",
            f"--duration={_DURATION_S}",
            f"--warmUp={_WARM_MS}",
            *timing_flags(self._trtexec.number, copies=copies),
            *([self._given] if self._given else []),
        )
        return read_times(path.read_text(), copies=copies)

    def _profiled(self, runs: int) -> Tuple[List[told.EngineLayer], List[Tuple[str, float]]]:
        layers, profile = self._path("layers.json"), self._path("profile.json")
        self._trtexec.run(
            f"--loadEngine={self._path('engine.plan')}",
            f"--exportLayerInfo={layers}",
            f"--exportProfile={profile}",
            f"--iterations={runs}",
            "--duration=0",
            *profile_flags(self._trtexec.number),
        )
        return (
            told.read_layers(layers.read_text(errors="replace")),
            told.read_profile(profile.read_text(errors="replace")),
        )


def _workspace_mib() -> int:
    """Return how much memory the builder may use, 0 where that can't be asked for."""
    with contextlib.suppress(MissingError, DeviceError):
        return workspace_bytes(Cuda()) >> 20
    return 0
