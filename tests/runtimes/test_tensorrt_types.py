"""The TensorRT code against the API of the real bindings of 8.6.1, 10.3, 10.16 and 11.4.

    python -m pytest -m slow tests/runtimes/test_tensorrt_types.py

The first run fetches some 5 MB from the package index and takes minutes; without an index it says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

WRONG = {
    "8.6.1": "    trt.DataType.BF16\n    trt.Builder(log).create_optimisation_profile()\n",
    "10.3.0": "    context.execute_async_v2([], 0)\n    trt.NetworkDefinitionCreationFlag.EXPLICIT_PRECISION\n",
    "10.16.1.11": "    config.max_workspace_size = 1\n    engine.num_bindings\n",
    "11.4.0.106": "    trt.BuilderFlag.FP16\n    trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH\n",
}
PROBE = (
    "from __future__ import annotations\nimport tensorrt as trt\n"
    "def probe(log: trt.ILogger, config: trt.IBuilderConfig, engine: trt.ICudaEngine, context: trt.IExecutionContext)"
    " -> None:\n"
)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import tensorrt_types

    return tensorrt_types


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_type_checks_against_every_version() -> None:
    done = subprocess.run([sys.executable, str(TOOLS / "tensorrt_types.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if " 0 by names" not in done.stdout:
        pytest.skip(f"passed by names alone, the types are not to be had here: {done.stdout.splitlines()[0]}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", WRONG)
def test_what_a_version_does_not_have_is_found(
    version: str, tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By names, which need no index: each of the two wrong lines gives one error."""
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE + WRONG[version])
    monkeypatch.setattr(tool, "CHECKED", [probe])
    done = tool.check(tool.name_types(version, tmp_path / "stubs"), names=True)
    assert done.returncode == 1
    assert [line.split(":")[1] for line in done.stdout.splitlines()[:2]] == ["4", "5"], done.stdout


REAL = """
import sys, types
import tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
from edgeprune.errors import MissingError
from edgeprune.runtimes.tensorrt_build import build, make_log
from edgeprune.runtimes.tensorrt_session import make_profiler
log, profiler = make_log(), make_profiler()
log.log(tensorrt_bindings.ILogger.ERROR, "bad")
log.log(tensorrt_bindings.ILogger.WARNING, "Skipping tactic 0x3 due to insufficient memory")
assert (log.last_error(), log.skipped) == ("bad", 1)
profiler.start(counts=True)
profiler.report_layer_time("conv", 0.5)
assert profiler.runs == [[("conv", 500.0)]]
try:
    build(b"", "fp32", None)
except MissingError as error:
    print("no GPU:", error.message)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_our_classes_are_what_the_real_bindings_take(tool: ModuleType) -> None:
    """The real logger, profiler and enumerations; the real Builder says that there is no GPU."""
    for version in tool.PACKAGES:
        folder = tool.cache_folder(version)
        try:
            tool.real_types(version, folder, tool.cache_folder("stubgen"))
        except tool.CannotCheckError as error:
            pytest.skip(f"the real bindings are not to be had here: {error}")
        environment = tool.bindings_environment(folder, TOOLS.parent)
        done = subprocess.run([sys.executable, "-c", REAL], env=environment, capture_output=True, text=True)
        assert done.stdout.startswith(f"no GPU: TensorRT {version} finds no GPU"), done.stdout + done.stderr


def test_a_stub_becomes_one_that_mypy_reads(tool: ModuleType) -> None:
    raw = (
        "from __future__ import annotations\n"
        "class IHostMemory:\n"
        '    """Text."""\n'
        "    def read(self, in: int, size: int = 3, name: str = None, more: int) -> bool: ...\n"
    )
    assert tool.mended(raw) == (
        "from __future__ import annotations\n"
        "import builtins\n\n"
        "class IHostMemory:\n\n"
        "    def __buffer__(self, flags: int, /) -> memoryview:\n        ...\n"
        "    'Text.'\n\n"
        "    def read(self, in_: int, size: int=3, name: str | None=None, more: int=...) -> builtins.bool:\n"
        "        ...\n"
    )


def test_the_names_are_those_of_the_versions_that_are_checked(tool: ModuleType) -> None:
    names = json.loads(tool.NAMES.read_text())
    assert set(names) == set(tool.PACKAGES)
    assert "FP16" in names["10.16.1.11"]["enums"]["BuilderFlag"]
    assert "FP16" not in names["11.4.0.106"]["enums"]["BuilderFlag"]
    # The number of a flag is no name for it: bit 0 means two things.
    flags = "NetworkDefinitionCreationFlag"
    assert (
        names["8.6.1"]["enums"][flags]["EXPLICIT_BATCH"] == 0 == names["11.4.0.106"]["enums"][flags]["STRONGLY_TYPED"]
    )
