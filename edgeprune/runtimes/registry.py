"""The runtimes that EdgePrune knows, as described records; nothing is imported until a runtime is opened.

Adding one: a file that fits `base.Runtime`, and a row at the end of this file. The contract tests run on it at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from dataclasses import dataclass
from typing import Mapping

from edgeprune.errors import EdgePruneError, InputError, MissingError, nearest
from edgeprune.runtimes.base import Runtime
from edgeprune.runtimes.cudart import Cuda


@dataclass(frozen=True)
class RuntimeRecord:
    """What can be said of a runtime without importing it.

    Attributes:
        name: what `profiles/*.toml` calls it.
        title: how its makers write it.
        factory: `module:Class` of the adapter.
        import_name: the module whose presence means that the runtime is installed.
        install: the command that installs it.
        precisions: those that the adapter can run; hardware may offer fewer, which a session finds by reading back.
        suffixes: endings of the files that `save_engine` writes.
        processor: `cpu`, in threads of the calling process, or `gpu`.
        takes_types: the model's own types say what it computes in; else the precision is a setting.
        quantizer: what makes an int8 model for it (a key of `latency.quantized.QUANTIZERS`); empty where nothing does.
        commands: programs, any of which does where the module is missing; an absolute path, or a name on the PATH.
    """

    name: str
    title: str
    factory: str
    import_name: str
    install: str
    precisions: tuple[str, ...]
    suffixes: tuple[str, ...]
    processor: str = "cpu"
    takes_types: bool = False
    quantizer: str = ""
    commands: tuple[str, ...] = ()

    def installed(self) -> bool:
        """Say whether the runtime can be used here, without importing it."""
        return self._imports() or any(map(shutil.which, self.commands))

    def lacking(self) -> str:
        """Return what keeps the runtime from being used here and what would mend it; an empty text where nothing does.

        It is not imported, but where it needs a GPU, one is looked for. Of its commands alone nothing is known: they
        bring what they need.
        """
        if not self.installed():
            return self.install
        if self.processor != "gpu" or not self._imports():
            return ""
        try:
            Cuda()
        except EdgePruneError as error:
            return f"{error.message}: {error.remedy}"
        return ""

    def _imports(self) -> bool:
        return importlib.util.find_spec(self.import_name) is not None


_RECORDS: dict[str, RuntimeRecord] = {}


def register(record: RuntimeRecord) -> None:
    """Make a runtime known.

    Raises:
        InputError: the name is taken.
    """
    if record.name in _RECORDS:
        raise InputError(
            f"runtime {record.name!r} is registered already, as {_RECORDS[record.name].factory}",
            remedy="give the new runtime another name",
        )
    _RECORDS[record.name] = record


def records() -> Mapping[str, RuntimeRecord]:
    """Return every known runtime by name, in the order of registration."""
    return dict(_RECORDS)


def find_record(name: str) -> RuntimeRecord:
    """Return the record called `name`.

    Raises:
        InputError: no such runtime.
    """
    if name not in _RECORDS:
        raise InputError(
            f"runtime {name!r} is not known{nearest(name, _RECORDS)}", remedy=f"use one of {', '.join(_RECORDS)}"
        )
    return _RECORDS[name]


def open_runtime(name: str) -> Runtime:
    """Import the adapter called `name` and return it, ready to use.

    Raises:
        InputError: no such runtime.
        MissingError: its package is not installed on this machine.
    """
    record = find_record(name)
    if not record.installed():
        raise MissingError(f"{record.title} is not installed: no module {record.import_name!r}", remedy=record.install)
    module, _, factory = record.factory.partition(":")
    runtime: Runtime = getattr(importlib.import_module(module), factory)()
    return runtime


register(
    RuntimeRecord(
        name="openvino",
        title="OpenVINO",
        factory="edgeprune.runtimes.openvino:OpenVINO",
        import_name="openvino",
        install="pip install openvino",
        precisions=("fp32", "bf16", "fp16", "int8"),
        suffixes=(".xml", ".bin"),
        quantizer="nncf",
    )
)
register(
    RuntimeRecord(
        name="onnxruntime",
        title="ONNX Runtime",
        factory="edgeprune.runtimes.onnxruntime:ONNXRuntime",
        import_name="onnxruntime",
        install="pip install onnxruntime",
        precisions=("fp32", "int8"),
        suffixes=(".onnx",),
        quantizer="qdq",
    )
)
register(
    RuntimeRecord(
        name="tensorrt",
        title="TensorRT",
        factory="edgeprune.runtimes.tensorrt:TensorRT",
        import_name="tensorrt",
        install="pip install 'edgeprune[tensorrt]', or on a Jetson: sudo apt install python3-libnvinfer",
        precisions=("fp32", "fp16", "int8"),
        suffixes=(".plan",),
        processor="gpu",
        takes_types=True,
        quantizer="symmetric",
        commands=("trtexec", "/usr/src/tensorrt/bin/trtexec"),
    )
)
