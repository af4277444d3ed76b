"""A trtexec without TensorRT: the options of one version and no others, outputs by ONNX Runtime.

`write(folder, version)` makes the program. An option that a version does not have ends it with an error, as there; the
defaults that changed in 11 decide what the times hold: `latencyMs` has copies only where they were asked for.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import shape_inference

from tests.standins.engine_layers import fused, ports, session_of, sizes

COMMON = (
    "onnx saveEngine loadEngine profilingVerbosity avgTiming memPoolSize noTF32 exportTimes exportProfile "
    "exportLayerInfo exportOutput loadInputs iterations duration warmUp"
)
OF_VERSION = {
    "8503": "buildOnly useCudaGraph useSpinWait noDataTransfers separateProfileRun fp16 int8",
    "8602": "skipInference builderOptimizationLevel maxAuxStreams useCudaGraph useSpinWait noDataTransfers "
    "separateProfileRun fp16 int8",
    "100300": "skipInference builderOptimizationLevel maxAuxStreams useCudaGraph useSpinWait noDataTransfers "
    "separateProfileRun fp16 int8 stronglyTyped",
    "110400": "skipInference builderOptimizationLevel maxAuxStreams includeDataTransfers noCudaGraph noSpinWait",
}
COMPUTE_MS, COPY_MS, ASLEEP_MS, LAUNCH_MS = 1.0, 0.25, 0.125, 0.5


def write(folder: Path, version: str) -> Path:
    """Make the program `trtexec` in `folder`; what it was called with is kept in `calls` there."""
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).parents[2]
    path = folder / "trtexec"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        f"from tests.standins.trtexec import main\nsys.exit(main(sys.argv, {version!r}, {str(folder)!r}))\n"
    )
    path.chmod(0o755)
    return path


def runner(version: str, folder: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Return what does for `subprocess.run` what the program would, without the time that Python takes to start."""

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main(command, version, str(folder))
        return subprocess.CompletedProcess(command, code, printed.getvalue().encode())

    return run


def main(command: list[str], version: str, folder: str) -> int:
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # {' '.join(command)}")
    with open(Path(folder) / "calls", "a") as log:
        log.write(" ".join(command[1:]) + "\n")
    given = dict([*word.lstrip("-").split("=", 1), ""][:2] for word in command[1:])
    unknown = set(given) - set(f"{COMMON} {OF_VERSION[version]}".split())
    if unknown:
        print(f"[11/21/2026-20:15:01] [E] Unknown option: --{sorted(unknown)[0]}")
        return 1
    try:
        return _build(given, version) if "onnx" in given else _infer(given, version)
    except Exception as error:
        print(f"[11/21/2026-20:15:01] [E] {str(error).splitlines()[0]}")
        return 1


def _build(given: dict[str, str], version: str) -> int:
    content = Path(given["onnx"]).read_bytes()
    onnx.checker.check_model(onnx.load_model_from_string(content))
    half = "fp16" in given
    if half and "stronglyTyped" in given:
        raise ValueError("precision flags can not be used with a strongly typed network")
    header = {"half": half, "detailed": given.get("profilingVerbosity") == "detailed"}
    Path(given["saveEngine"]).write_bytes(json.dumps(header).encode() + b"\0" + content)
    return 0


def _infer(given: dict[str, str], version: str) -> int:
    header, _, content = Path(given["loadEngine"]).read_bytes().partition(b"\0")
    described, new = json.loads(header), int(version) >= 110000
    model = shape_inference.infer_shapes(onnx.load_model_from_string(content))
    layers = fused(model, half=described["half"], version="8.6" if version.startswith("8") else "10")
    copies = "includeDataTransfers" in given if new else "noDataTransfers" not in given
    slow = 0.0 if new or "useSpinWait" in given else ASLEEP_MS
    slow += 0.0 if new or "useCudaGraph" in given else LAUNCH_MS
    times = [
        {
            "computeMs": COMPUTE_MS + slow + at % 3 / 100,
            "latencyMs": COMPUTE_MS + slow + copies * COPY_MS + at % 3 / 100,
        }
        for at in range(int(given["iterations"]))
    ]
    if "exportTimes" in given:
        Path(given["exportTimes"]).write_text(json.dumps(times))
    if "exportLayerInfo" in given:
        shown = [{key: one for key, one in layer.items() if key != "ms"} for layer in layers]
        text = json.dumps({"Layers": shown, "Bindings": []})
        Path(given["exportLayerInfo"]).write_text(text.replace("\\u001e", "\x1e").replace("\\u001f", "\x1f"))
    if "exportProfile" in given:
        rows = [{"name": layer["Name"], "averageMs": layer["ms"], "medianMs": layer["ms"]} for layer in layers]
        Path(given["exportProfile"]).write_text(json.dumps([{"count": len(times)}, *rows]))
    if "exportOutput" in given:
        if not copies:
            raise ValueError("there are no outputs on the host without data transfers")
        Path(given["exportOutput"]).write_text(json.dumps(_outputs(given, model, content)))
    return 0


def _outputs(given: dict[str, str], model: onnx.ModelProto, content: bytes) -> list[dict[str, object]]:
    files = dict(pair.split(":", 1) for pair in given["loadInputs"].split(","))
    arrays = {}
    for port in ports(model)[0]:
        kind = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        arrays[port.name] = np.fromfile(files[port.name], dtype=kind).reshape(sizes(port))
    session = session_of(content)
    names = [port.name for port in session.get_outputs()]
    return [
        {"name": name, "dimensions": "x".join(map(str, found.shape)), "values": found.ravel().tolist()}
        for name, found in zip(names, session.run(names, arrays), strict=True)
    ]
