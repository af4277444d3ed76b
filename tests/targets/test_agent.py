from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zipapp
from pathlib import Path

import pytest

from edgeprune.targets import agent
from edgeprune.targets.agent import PROTOCOL, Closed, Late, Peer, Stream, perform

ROOT = Path(agent.__file__).parents[2]
CALLS = "tests.targets.device_calls"


@pytest.fixture
def pipe() -> tuple[Stream, int, int]:
    reading, writing = os.pipe()
    return Stream(reading, writing), reading, writing


def test_a_frame_is_read_as_it_was_sent(pipe: tuple[Stream, int, int], tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"content")
    pipe[0].send({"a": [1, "ü"]}, {"../../x.onnx": source})
    header, files = pipe[0].receive(tmp_path)
    assert header == {"a": [1, "ü"]}
    # A name that is sent never decides where something is written.
    assert files == {"../../x.onnx": tmp_path / "0.onnx"}
    assert files["../../x.onnx"].read_bytes() == b"content"


def test_the_format_is_what_the_docstring_says(pipe: tuple[Stream, int, int], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"xyz")
    pipe[0].send({"k": 1}, {"f": source})
    header = b'{"k": 1, "files": [["f", 3]]}'
    assert os.read(pipe[1], 1000) == struct.pack(">I", len(header)) + header + b"xyz"


def test_waits_have_a_limit(pipe: tuple[Stream, int, int], tmp_path: Path) -> None:
    with pytest.raises(Late):
        pipe[0].receive(tmp_path, time.monotonic() + 0.05)


def test_an_end_is_an_end(pipe: tuple[Stream, int, int], tmp_path: Path) -> None:
    os.write(pipe[2], b"\0\0")
    os.close(pipe[2])
    with pytest.raises(Closed):
        pipe[0].receive(tmp_path)


def test_noise_is_no_frame(pipe: tuple[Stream, int, int], tmp_path: Path) -> None:
    os.write(pipe[2], b"Welcome to Ubuntu\n")
    with pytest.raises(ValueError, match="not a frame"):
        pipe[0].receive(tmp_path)


def test_a_function_is_called_by_name(tmp_path: Path) -> None:
    call = {"function": f"{CALLS}:echo", "arguments": {"a": 1}, "paths": {}, "out": str(tmp_path)}
    assert perform(call)["result"]["arguments"] == {"a": 1}


def test_an_error_says_what_it_was(tmp_path: Path) -> None:
    error = perform({"function": f"{CALLS}:refuse", "arguments": {}, "paths": {}, "out": str(tmp_path)})["error"]
    assert (error["class"], error["message"], error["remedy"]) == (
        "BudgetError",
        "under the floor: 3 ms",
        "ask for more",
    )
    assert "device_calls.py" in error["trace"]


def zipped(folder: Path) -> Path:
    """Pack what a device needs of EdgePrune into one file, as for a machine that has none of it."""
    for name in ("__init__.py", "errors.py", "targets/__init__.py", "targets/agent.py", "targets/clocks.py"):
        (folder / "app/edgeprune" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "app/edgeprune" / name).write_bytes((ROOT / "edgeprune" / name).read_bytes())
    (folder / "app/edgeprune/echo.py").write_text("def echo(arguments, files, out):\n    return arguments\n")
    zipapp.create_archive(folder / "app", folder / "agent.pyz", main="edgeprune.targets.agent:serve")
    return folder / "agent.pyz"


@pytest.mark.parametrize("form", ["script", "module", "zipapp"])
def test_starts_in_every_form(form: str, tmp_path: Path) -> None:
    commands = {
        "script": [sys.executable, str(ROOT / "edgeprune/targets/agent.py")],
        "module": [sys.executable, "-m", "edgeprune.targets.agent"],
        "zipapp": [sys.executable, "-I", str(zipped(tmp_path))],
    }
    function = "edgeprune.echo:echo" if form == "zipapp" else f"{CALLS}:echo"
    peer = Peer(commands[form])
    try:
        greeting, _ = peer.stream.receive(tmp_path, time.monotonic() + 30)
        assert greeting["agent"] == PROTOCOL
        peer.stream.send({"function": function, "arguments": {"a": 1}, "timeout_s": 30})
        answer, _ = peer.stream.receive(tmp_path, time.monotonic() + 30)
        assert "result" in answer
    finally:
        assert peer.end(grace_s=10) == 0


def test_needs_the_standard_library_alone() -> None:
    code = "import sys; before = set(sys.modules); import edgeprune.targets.agent; print(*(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in found.stdout.split()} - {"edgeprune"}
    assert loaded <= sys.stdlib_module_names
