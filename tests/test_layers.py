"""Imports go one way: every row below may import the rows under it, and nothing else but its own package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from edgeprune.targets.packing import device_files
from tests.source import ROOT, imports, modules

ROWS = (
    ("__init__", "__main__"),
    ("api", "cli"),
    ("replay",),
    ("pipeline",),
    ("documents", "diagnosis", "evidence", "outlook", "precision", "teach"),
    ("cutting",),
    ("decision", "shipping"),
    ("prepare",),
    ("tracing",),
    ("scoring",),
    ("verification", "report"),
    ("trainjob", "request"),
    ("job",),
    ("checks",),
    ("budget", "artifacts"),
    ("latency", "training"),
    ("pruning", "targets"),
    ("graph", "runtimes"),
    ("muting", "progress", "records", "units", "usercode"),
    ("errors",),
)
ROW_OF = {name: depth for depth, row in enumerate(ROWS) for name in row}
MODULES = modules()

TORCH = {"accelerate", "timm", "torch", "torchvision"}
TORCH_IN = {"graph", "pruning", "training", "artifacts"}
SDKS = {"onnxruntime", "openvino", "tensorrt"}

DEVICE_SIDE = device_files()


def package(module: str) -> str:
    """Return the row entry that a module such as `edgeprune.graph.trace` belongs to."""
    return [*module.split("."), "__init__"][1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    own = package(module)
    for name in imports(MODULES[module]):
        if name.split(".")[0] != "edgeprune":
            continue
        other = package(name)
        assert other in ROW_OF, f"{name}: give {other} a row in the table"
        assert other == own or ROW_OF[other] > ROW_OF[own], f"{module} imports {name}, which is not below it"


@pytest.mark.parametrize("module", MODULES)
def test_torch_stays_in_its_rooms(module: str) -> None:
    found = {name.split(".")[0] for name in imports(MODULES[module])}
    assert package(module) in TORCH_IN or not found & TORCH


@pytest.mark.parametrize("module", MODULES)
def test_an_sdk_is_imported_only_in_its_own_file_and_only_when_used(module: str) -> None:
    allowed = {module.split(".")[-1].partition("_")[0]} if package(module) == "runtimes" else set()
    # What these hold are tools for ONNX files, not the runtime.
    tools = ("onnxruntime.quantization", "onnxruntime.transformers.")
    used = [name for name in imports(MODULES[module]) if not name.startswith(tools)]
    found = {name.split(".")[0] for name in used}
    at_once = {name.split(".")[0] for name in imports(MODULES[module], top_level=True)}
    assert not found & SDKS - allowed
    assert not at_once & SDKS


@pytest.mark.parametrize("path", DEVICE_SIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_device_side_files_are_python_3_8_and_stay_among_themselves(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ast.parse(text, str(path), feature_version=(3, 8))
    assert "from __future__ import annotations" in text or "__init__" in path.name
    assert "slots=True" not in text
    names = [name for name in imports(path) if path.name != "__init__.py" or path.parent != ROOT]
    assert not {name.split(".")[0] for name in names} & {"tomllib", *TORCH}
    ours = [name for name in names if name.startswith("edgeprune.")]
    here = {file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for file in DEVICE_SIDE}
    assert not [name for name in ours if not any(f"{name}.".startswith(f"edgeprune.{other}.") for other in here)]


def test_packages_are_described_and_empty() -> None:
    for path in ROOT.glob("*/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, f"{path} holds more than its docstring"
        assert ast.get_docstring(ast.Module(body, [])), f"{path} has no docstring"
