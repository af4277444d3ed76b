from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.errors import BudgetError, EdgePruneError
from edgeprune.targets.local import LocalDevice

CALLS = "tests.targets.device_calls"


@pytest.fixture(scope="module")
def device() -> Iterator[LocalDevice]:
    with LocalDevice() as opened:
        yield opened


def test_hands_arguments_and_files_over_and_back(device: LocalDevice, tmp_path: Path) -> None:
    (tmp_path / "b.onnx").write_bytes(b"abc")
    large = os.urandom(3 << 20)
    files = {"first": b"123", "b.onnx": tmp_path / "b.onnx", "../large": large, "empty": b""}
    arguments = {"text": "ä", "list": [1, None]}
    answer = device.call(f"{CALLS}:echo", arguments, {name: files[name] for name in ("first", "b.onnx", "empty")}, 30)
    assert answer.result["arguments"] == arguments
    assert answer.result["suffixes"] == ["", ".onnx", ""]
    assert answer.files == {"first.back": b"321", "b.onnx.back": b"cba", "empty.back": b""}
    assert device.call(f"{CALLS}:echo", {}, {"large": large}, 30).files == {"large.back": large[::-1]}


def test_keeps_what_was_imported(device: LocalDevice) -> None:
    first = device.call(f"{CALLS}:echo", {}, {}, 30).result["pid"]
    assert device.call(f"{CALLS}:echo", {}, {}, 30).result["pid"] == first != os.getpid()


def test_prints_do_not_disturb_the_stream(device: LocalDevice) -> None:
    assert device.call(f"{CALLS}:print_a_lot", {}, {}, 30).result == {}


def test_an_error_comes_back_as_it_was_raised(device: LocalDevice) -> None:
    with pytest.raises(BudgetError, match="under the floor: 3 ms") as caught:
        device.call(f"{CALLS}:refuse", {}, {}, 30)
    assert caught.value.remedy == "ask for more"
    assert "device_calls.py" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("stumble", "KeyError on the device: 'absent'"),
        ("answer_nonsense", "TypeError on the device: Object of type object is not JSON"),
        ("no_such", "AttributeError on the device: .*no_such"),
    ],
)
def test_an_error_that_is_not_ours_is_told(device: LocalDevice, function: str, words: str) -> None:
    with pytest.raises(EdgePruneError, match=words) as caught:
        device.call(f"{CALLS}:{function}", {}, {}, 30)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("die", {}, "killed by SIGKILL, often for want of memory"),
        ("die", {"signal": int(signal.SIGSEGV)}, "killed by SIGSEGV"),
        ("leave", {}, "ended with code 3"),
    ],
)
def test_a_death_is_an_error_and_the_device_goes_on(
    device: LocalDevice, function: str, arguments: dict[str, int], words: str
) -> None:
    with pytest.raises(EdgePruneError, match=words):
        device.call(f"{CALLS}:{function}", arguments, {}, 30)
    assert device.call(f"{CALLS}:echo", {"again": 1}, {}, 30).result["arguments"] == {"again": 1}


def test_a_call_that_does_not_end_is_ended(device: LocalDevice, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(EdgePruneError, match="did not finish within 2 s"):
        device.call(f"{CALLS}:hang", {"note": str(note)}, {}, 2)
    assert ended(int(note.read_text()))
    assert device.call(f"{CALLS}:echo", {}, {}, 30).result


def test_a_dead_agent_is_started_again() -> None:
    with LocalDevice() as device:
        device.call(f"{CALLS}:echo", {}, {}, 30)
        assert device._peer
        os.kill(device._peer._process.pid, signal.SIGKILL)
        device._peer._process.wait()
        assert device.call(f"{CALLS}:echo", {"again": 1}, {}, 30).result["arguments"] == {"again": 1}


def test_closing_ends_everything_and_may_be_repeated() -> None:
    device = LocalDevice()
    child = device.call(f"{CALLS}:echo", {}, {}, 30).result["pid"]
    device.close()
    device.close()
    assert ended(child)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_program_is_interrupted_or_killed(how: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background starts with it ignored
        "from edgeprune.targets.local import LocalDevice\n"
        f"LocalDevice().call('{CALLS}:hang', {{'note': {str(note)!r}}}, {{}}, 600)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    wait_for(note.exists)
    wait_for(note.read_text)
    child = int(note.read_text())
    host.send_signal(how)
    host.wait(timeout=30)
    assert ended(child)


def ended(process: int) -> bool:
    wait_for(lambda: not running(process))
    return True


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: object, limit_s: float = 30) -> None:
    assert callable(condition)
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)
