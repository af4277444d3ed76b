from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgeprune.targets import agent
from edgeprune.targets.agent import own_command, perform
from edgeprune.targets.device import Device
from edgeprune.targets.frames import PROTOCOL, Closed, Late, Stream
from edgeprune.targets.host import AgentDevice
from edgeprune.targets.packing import packed_agent
from edgeprune.targets.peer import Peer
from tests.contracts.device_contract import CALLS, DeviceContract, ended
from tests.loopback import wait_for

ROOT = Path(agent.__file__).parents[2]


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
    with pytest.raises(ValueError, match="b'Welc' is not the start of a frame"):
        pipe[0].receive(tmp_path)


@pytest.mark.parametrize("text", [b"nope", b"[]", b"{}", b'{"files": 1}', b'{"files": [["a", -1]]}', b"\xff"])
def test_a_header_must_be_one(text: bytes, pipe: tuple[Stream, int, int], tmp_path: Path) -> None:
    os.write(pipe[2], struct.pack(">I", len(text)) + text)
    with pytest.raises(ValueError, match="is not the header of a frame"):
        pipe[0].receive(tmp_path)


def test_what_is_left_of_a_frame_can_be_skipped(pipe: tuple[Stream, int, int], tmp_path: Path) -> None:
    pipe[0].send({"a": 1}, {"x": b"12345", "y": b"678"})
    pipe[0].send({"b": 2})
    _, sizes = pipe[0].header()
    assert sizes == [("x", 5), ("y", 3)]
    assert b"".join(pipe[0].blocks(2)) == b"12"
    pipe[0].skip()
    assert pipe[0].receive(tmp_path) == ({"b": 2}, {})


def test_a_reader_that_takes_nothing_is_given_up_on() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(Late, match=r"nothing was taken for 0.05 s"):
        Stream(reading, writing, stall_s=0.05).send({}, {"large": bytes(1 << 20)})


def test_a_function_is_called_by_name(tmp_path: Path) -> None:
    call = {"function": f"{CALLS}:echo", "arguments": {"a": 1}, "paths": {}, "out": str(tmp_path)}
    assert perform(call)["result"]["arguments"] == {"a": 1}


def test_temporary_files_of_a_call_lie_in_its_own_folder(tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    call = {"function": f"{CALLS}:scratch", "arguments": {}, "paths": {}, "out": str(out)}
    usual = tempfile.gettempdir()
    assert Path(perform(call)["result"]["folder"]).parent == tmp_path
    assert tempfile.gettempdir() == usual


def test_an_error_says_what_it_was(tmp_path: Path) -> None:
    error = perform({"function": f"{CALLS}:refuse", "arguments": {}, "paths": {}, "out": str(tmp_path)})["error"]
    assert (error["class"], error["message"], error["remedy"]) == (
        "BudgetError",
        "under the floor: 3 ms",
        "ask for more",
    )
    assert "device_calls.py" in error["trace"]


@pytest.mark.parametrize("form", ["checkout", "one file"])
def test_starts_in_every_form(form: str, tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(packed_agent())
    commands = {
        "checkout": own_command("serve"),
        "one file": [sys.executable, str(tmp_path / "agent.pyz"), str(tmp_path / "cache")],
    }
    peer = Peer(commands[form])
    try:
        greeting, _ = peer.stream.receive(tmp_path, time.monotonic() + 30)
        assert greeting["agent"] == PROTOCOL
        peer.stream.send({"function": f"{CALLS}:echo", "arguments": {"a": 1}, "timeout_s": 30})
        answer, _ = peer.stream.receive(tmp_path, time.monotonic() + 30)
        assert answer["result"]["arguments"] == {"a": 1}
    finally:
        assert peer.end(grace_s=10) == 0


def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    peer = Peer(["sh", "-c", f"sleep 600 & echo $! > {note}"])
    wait_for(lambda: note.exists() and note.read_text())
    assert peer.end(grace_s=10) == 0
    assert ended(int(note.read_text()))


def test_a_host_that_is_silent_for_long_is_given_up() -> None:
    code = "from edgeprune.targets import agent; agent._IDLE_LIMIT_S = 0.1; agent.serve()"
    agent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=str(ROOT)
    )
    assert agent.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "was killed by SIGKILL, often for want of memory"),
        (-11, "was killed by SIGSEGV"),
        (-40, "was killed by signal 40"),
        (3, "ended with code 3"),
    ],
)
def test_how_a_process_died_is_said(code: int, words: str) -> None:
    assert agent._death(code) == words


def test_needs_the_standard_library_alone(tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(packed_agent())
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'agent.pyz')!r}); before = set(sys.modules);"
        " import edgeprune.targets.agent; print(*(set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in found.stdout.split()} - {"edgeprune"}
    assert loaded <= sys.stdlib_module_names


def python_3_8() -> str | None:
    """Return a Python 3.8 of this machine, pyenv's as well."""
    found = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python3.8"))
    return shutil.which("python3.8", path=os.pathsep.join([str(path.parent) for path in found] + [os.defpath]))


class PackedDevice(AgentDevice):
    """The file that is sent to devices, run by the oldest Python that it must run on, through a pipe."""

    def __init__(self, folder: Path) -> None:
        super().__init__("python3.8")
        self.folder = folder

    def _start(self) -> Peer:
        python = python_3_8()
        assert python
        (self.folder / "agent.pyz").write_bytes(packed_agent())
        command = [python, str(self.folder / "agent.pyz"), str(self.folder / "cache")]
        return Peer(["env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", *command])


@pytest.mark.skipif(python_3_8() is None, reason="there is no Python 3.8 here, such as pyenv's, to run the agent in")
class TestPython38(DeviceContract):
    folder: Path

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def kept(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = tmp_path_factory.mktemp("device")

    @classmethod
    def opened(cls) -> Device:
        return PackedDevice(cls.folder)

    def test_is_what_it_says(self, device: Device) -> None:
        found = device.call(f"{CALLS}:versions", {}, {}, 30).result
        assert found["python"] == [3, 8]
        assert found["edgeprune"].startswith(str(self.folder / "agent.pyz"))
