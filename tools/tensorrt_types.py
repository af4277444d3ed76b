"""Check the TensorRT code against the real bindings' API, on a machine that has neither TensorRT nor a GPU.

    python tools/tensorrt_types.py [VERSION ...] [--names | --write-names]

For each version: NVIDIA's bindings for this Python come from the package index, and are imported over empty libraries
of the names that they link to (they need nine functions, and call none on import). pybind11-stubgen writes down their
classes, and mypy --strict checks edgeprune/runtimes against those. Nothing of it is kept in the repository: it lies in
the user's cache folder. Where no index or C++ compiler is at hand, the members' names in tests/standins take the place
of the types: then only a missing name is found, and the last line says so.

Exit code 0: all versions pass, 1: one does not.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
NAMES = CHECKOUT / "tests" / "standins" / "tensorrt_names.json"
CHECKED = sorted((CHECKOUT / "edgeprune" / "runtimes").glob("tensorrt*.py"))
PACKAGES = {
    "8.6.1": "tensorrt_bindings",
    "10.3.0": "tensorrt_cu12_bindings",
    "10.16.1.11": "tensorrt_cu13_bindings",
    "11.4.0.106": "tensorrt_cu13_bindings",
}
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
CLASSES = (
    *("Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser", "ParserError", "ITimingCache", "IHostMemory"),
    *("Runtime", "ICudaEngine", "IExecutionContext", "EngineInspector", "ILogger", "IProfiler", "ILayer", "ITensor"),
    "Dims",
)
ENUMS = (
    *("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "ProfilingVerbosity", "DataType"),
    *("LayerInformationFormat", "TensorIOMode"),
)
WRITE_NAMES = """
import json, sys
import tensorrt_bindings as trt
def members(name):
    kind = getattr(trt, name)
    return " ".join(sorted(one for one in dir(kind) if not one.startswith(("_", "add_"))))
def numbers(name):
    return {key: int(value) for key, value in getattr(trt, name).__members__.items()}
classes, enums = (argument.split() for argument in sys.argv[1:])
found = {name: members(name) for name in classes}
print(json.dumps({"classes": found, "enums": {name: numbers(name) for name in enums}}))
"""
FUNCTIONS = """
extern "C" {
void *createInferBuilder_INTERNAL(void *, int) { return 0; }
void *createInferRefitter_INTERNAL(void *, void *, int) { return 0; }
void *createInferRuntime_INTERNAL(void *, int) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *, void *, int) { return 0; }
void *createNvOnnxParser_INTERNAL(void *, void *, int) { return 0; }
void *getBuilderPluginRegistry(int) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
int initLibNvInferPlugins(void *, const char *) { return 0; }
}
"""
FUNCTIONS_OF_8 = """
namespace nvuffparser {
enum class FieldType : int;
struct FieldMap { FieldMap(char const *, void const *, FieldType, int); };
FieldMap::FieldMap(char const *, void const *, FieldType, int) {}
void *createUffParser() { return 0; }
}
namespace nvcaffeparser1 {
void *createCaffeParser() { return 0; }
void shutdownProtobufLibrary() {}
}
"""
MYPY = """
[mypy]
strict = true
python_version = {python}
mypy_path = {stubs}:{checkout}
cache_dir = {cache}
follow_imports = silent
[mypy-tensorrt.*]
ignore_errors = true
[mypy-tensorrt_bindings.*]
ignore_errors = true
{names}
"""
NAMES_HAVE_NO_TYPES = """
[mypy-edgeprune.runtimes.*]
warn_return_any = false
"""
NAMES_LACK = {
    "IHostMemory": ["    def __buffer__(self, flags: int, /) -> memoryview: ..."],
    "Dims": ["    def __len__(self) -> int: ...", "    def __getitem__(self, at: int) -> int: ..."],
}


class CannotCheckError(Exception):
    """The real types are not to be had here; the message says why."""


def main() -> int:
    """Check every version that was named, or all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=list(PACKAGES), metavar="VERSION")
    parser.add_argument("--names", action="store_true", help="take the names in tests/standins instead of the types")
    parser.add_argument("--write-names", action="store_true", help="write the names in tests/standins from the types")
    given = parser.parse_args()
    if given.write_names:
        found = {one: names_of(one, cache_folder(one), cache_folder("stubgen")) for one in PACKAGES}
        NAMES.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
        return 0
    codes, against = [], []
    for version in given.versions:
        folder = cache_folder(version)
        try:
            stubs = None if given.names else real_types(version, folder, cache_folder("stubgen"))
        except CannotCheckError as error:
            print(f"{version}: {error}; the names take the place of the types")
            stubs = None
        kind = "types" if stubs else "names"
        found = check(stubs or name_types(version, folder / "names"), names=stubs is None)
        print(f"{version}: {'passes' if found.returncode == 0 else 'fails'} against the bindings' {kind}")
        print(found.stdout if found.returncode else "", end="")
        codes.append(found.returncode)
        against.append(kind)
    print(
        f"checked {len(CHECKED)} files: {against.count('types')} versions by types, {against.count('names')} by names"
    )
    return 1 if any(codes) else 0


def cache_folder(name: str) -> Path:
    """Return where a version's bindings are kept, or another thing of this Python."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "edgeprune" / "tensorrt-types" / f"{name}-{sys.implementation.cache_tag}"


def real_types(version: str, folder: Path, stubgen: Path) -> Path:
    """Return the folder with the stubs of one version's bindings, made if they are not there.

    Raises:
        CannotCheckError: no package index, no compiler, or bindings that don't import.
    """
    if (folder / "stubs" / "tensorrt" / "tensorrt.pyi").exists():
        return folder / "stubs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wheel = fetched(PACKAGES[version], version, folder)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "wheel")
    if not (stubgen / "pybind11_stubgen").is_dir():
        pip("install", "--no-deps", "--target", str(stubgen), "pybind11-stubgen")
    major = version.partition(".")[0]
    compile_libraries(folder / "lib", major)
    environment = bindings_environment(folder, stubgen)
    enums = ["--enum-class-locations", ".*:tensorrt_bindings"]
    command = [sys.executable, "-m", "pybind11_stubgen", "tensorrt_bindings", "--ignore-all-errors", *enums]
    call([*command, "-o", str(folder / "raw")], environment)
    for path in sorted((folder / "raw" / "tensorrt_bindings").glob("*.pyi")):
        target = folder / "stubs" / "tensorrt" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(mended(path.read_text()).replace("tensorrt_bindings", "tensorrt"))
    return folder / "stubs"


def bindings_environment(folder: Path, stubgen: Path) -> dict[str, str]:
    """Return the variables with which the bindings in `folder` import."""
    return {**os.environ, "PYTHONPATH": f"{folder / 'wheel'}:{stubgen}", "LD_LIBRARY_PATH": str(folder / "lib")}


def fetched(package: str, version: str, folder: Path) -> Path:
    """Return the wheel of the bindings for this Python."""
    pip("download", "--no-deps", "-d", str(folder), f"{package}=={version}")
    return next(folder.glob("*.whl"))


def pip(*arguments: str) -> None:
    """Run pip."""
    call([sys.executable, "-m", "pip", arguments[0], "-q", "--disable-pip-version-check", *arguments[1:]], None)


def compile_libraries(folder: Path, major: str) -> None:
    """Make the libraries that the bindings link to, with functions that do nothing."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise CannotCheckError("there is no C++ compiler")
    folder.mkdir(parents=True)
    sources = dict.fromkeys(LIBRARIES, FUNCTIONS)
    if major == "8":
        sources["nvparsers"] = FUNCTIONS_OF_8
    for name, text in sources.items():
        (folder / f"{name}.cpp").write_text(text)
        library = folder / f"lib{name}.so.{major}"
        call([compiler, "-shared", "-fPIC", "-o", str(library), str(folder / f"{name}.cpp")], None)


def call(command: list[str], environment: dict[str, str] | None) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise CannotCheckError(f"{' '.join(command[1:4])} failed: {said}")


def mended(text: str) -> str:
    """Return a stub file that mypy can read.

    What pybind11-stubgen leaves: an argument named `in`, arguments without a default behind some with one, None as the
    default of what is not optional, a class attribute that hides bool, C++ names, buffers without a type.
    """
    lines = [_mended_line(line) for line in text.splitlines()]
    text = "\n".join(lines).replace("capsule", "typing.Any") + "\n"
    text = text.replace("from __future__ import annotations", "from __future__ import annotations\nimport builtins", 1)
    text = text.replace(
        "class IHostMemory:",
        "class IHostMemory:\n    def __buffer__(self, flags: int, /) -> memoryview: ...",
        1,
    )
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Expr(ast.Constant(...))]
    return ast.unparse(tree) + "\n"


def _mended_line(line: str) -> str:
    found = re.match(r"^(\s*def \w+\()(.*)(\) -> .*:.*)$", line)
    if found:
        optional, arguments = False, []
        for argument in _arguments(found[2]):
            argument = re.sub(r"^(\s*)in:", r"\1in_:", argument)
            optional = optional or "=" in argument
            if optional and "=" not in argument and not argument.strip().startswith("*"):
                argument += " = ..."
            arguments.append(re.sub(r": ([\w\.\[\]]+) = None$", r": \1 | None = None", argument))
        line = found[1] + ",".join(arguments) + found[3]
    if "def " in line or "-> " in line:
        line = re.sub(r"(?<![\w.])bool(?=\s*(?:[,)\]|:=]|$))", "builtins.bool", line)
    return line


def _arguments(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += character in "([{"
        depth -= character in ")]}"
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def names_of(version: str, folder: Path, stubgen: Path) -> dict[str, dict[str, object]]:
    """Return members by class, and numbers by member of each enumeration, of those that the code uses.

    What builds a network by hand (`add_convolution_nd` ...) is left out: nothing here does.
    """
    real_types(version, folder, stubgen)
    command = [sys.executable, "-c", WRITE_NAMES, " ".join(CLASSES), " ".join(ENUMS)]
    done = subprocess.run(
        command, env=bindings_environment(folder, stubgen), capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def name_types(version: str, folder: Path) -> Path:
    """Return a folder with a module whose classes have the members of a version, of any type."""
    names = json.loads(NAMES.read_text())[version]
    lines = ["from typing import Any", "class _Member:", "    name: str", "    def __int__(self) -> int: ..."]
    lines.append("__version__: str")
    for name, members in names["enums"].items():
        lines += [f"class {name}:", *(f"    {member}: _Member" for member in members)]
    for name, members in names["classes"].items():
        lines += [f"class {name}:", "    def __init__(self, *arguments: Any) -> None: ..."]
        lines += [f"    {member}: Any" for member in members.split()]
        lines += NAMES_LACK.get(name, [])
    (folder / "tensorrt").mkdir(parents=True, exist_ok=True)
    (folder / "tensorrt" / "__init__.pyi").write_text("\n".join(lines) + "\n")
    return folder


def check(stubs: Path, *, names: bool) -> subprocess.CompletedProcess[str]:
    """Run mypy over the TensorRT files with the stubs in place of the package."""
    config = stubs.parent / ("names.ini" if names else "mypy.ini")
    text = MYPY.format(
        python="{}.{}".format(*sys.version_info[:2]),
        stubs=stubs,
        checkout=CHECKOUT,
        cache=stubs.parent / "mypy",
        names=NAMES_HAVE_NO_TYPES if names else "",
    )
    config.write_text(text)
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), *map(str, CHECKED)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
