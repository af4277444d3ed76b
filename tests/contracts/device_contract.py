"""What every device must do. A test file a kind of device subclasses `DeviceContract` and says how it is opened.

What the device is asked to do is in `tests/targets/device_calls.py`, which its Python must be able to import.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.errors import BudgetError, DeviceError, EdgePruneError, MissingError
from edgeprune.targets.device import Device
from tests.loopback import wait_for

CALLS = "tests.targets.device_calls"


class DeviceContract:
    @classmethod
    def opened(cls) -> Device:
        """Return a device of the kind, closed again by who asks; `device` is one that several tests share."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls) -> Iterator[Device]:
        with cls.opened() as shared:
            yield shared

    def test_hands_arguments_and_files_over_and_back(self, device: Device, tmp_path: Path) -> None:
        (tmp_path / "b.onnx").write_bytes(b"abc")
        large = os.urandom(3 << 20)
        files = {"first": b"123", "b.onnx": tmp_path / "b.onnx", "empty": b"", "again": b"123"}
        arguments = {"text": "ä", "list": [1, None]}
        answer = device.call(f"{CALLS}:echo", arguments, files, 30)
        assert answer.result["arguments"] == arguments
        assert answer.result["suffixes"] == ["", ".onnx", "", ""]
        backwards = {"first": b"321", "b.onnx": b"cba", "empty": b"", "again": b"321"}
        assert answer.files == {f"{name}.back": content for name, content in backwards.items()}
        assert device.call(f"{CALLS}:echo", {}, {"large": large}, 30).files == {"large.back": large[::-1]}

    def test_keeps_what_was_imported(self, device: Device) -> None:
        first = device.call(f"{CALLS}:echo", {}, {}, 30).result["pid"]
        assert device.call(f"{CALLS}:echo", {}, {}, 30).result["pid"] == first != os.getpid()

    def test_prints_do_not_disturb_the_stream(self, device: Device) -> None:
        assert device.call(f"{CALLS}:print_a_lot", {}, {}, 30).result == {}

    def test_an_error_comes_back_as_it_was_raised(self, device: Device) -> None:
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
    def test_an_error_that_is_not_ours_is_told(self, device: Device, function: str, words: str) -> None:
        with pytest.raises(EdgePruneError, match=words) as caught:
            device.call(f"{CALLS}:{function}", {}, {}, 30)
        assert caught.value.exit_code == 1

    def test_a_package_that_the_device_lacks_is_named(self, device: Device) -> None:
        with pytest.raises(MissingError, match="cannot import no_such_package") as caught:
            device.call("no_such_package.deep:function", {}, {}, 30)
        assert caught.value.remedy == "install it there: python3 -m pip install no_such_package"

    def test_a_full_disk_is_told(self, device: Device) -> None:
        with pytest.raises(DeviceError, match="disk is full") as caught:
            device.call(f"{CALLS}:fill_the_disk", {}, {}, 30)
        assert caught.value.exit_code == 3

    def test_too_little_memory_is_told(self, device: Device) -> None:
        with pytest.raises(DeviceError, match="too little memory") as caught:
            device.call(f"{CALLS}:use_all_memory", {}, {}, 30)
        assert caught.value.exit_code == 3

    @pytest.mark.parametrize(
        ("function", "arguments", "words"),
        [
            ("die", {}, "killed by SIGKILL, often for want of memory"),
            ("die", {"signal": int(signal.SIGSEGV)}, "killed by SIGSEGV"),
            ("leave", {}, "ended with code 3"),
        ],
    )
    def test_a_death_is_an_error_and_the_device_goes_on(
        self, device: Device, function: str, arguments: dict[str, int], words: str
    ) -> None:
        with pytest.raises(DeviceError, match=words) as caught:
            device.call(f"{CALLS}:{function}", arguments, {}, 30)
        assert caught.value.exit_code == 3
        assert device.call(f"{CALLS}:echo", {"again": 1}, {}, 30).result["arguments"] == {"again": 1}

    def test_a_call_that_does_not_end_is_ended(self, device: Device, tmp_path: Path) -> None:
        note = tmp_path / "pid"
        with pytest.raises(DeviceError, match="did not finish within 2 s"):
            device.call(f"{CALLS}:hang", {"note": str(note)}, {}, 2)
        assert ended(int(note.read_text()))
        assert device.call(f"{CALLS}:echo", {}, {}, 30).result

    def test_a_dead_agent_is_started_again(self) -> None:
        with self.opened() as device:
            agent = device.call(f"{CALLS}:echo", {}, {}, 30).result["agent"]
            os.kill(agent, signal.SIGKILL)
            assert ended(agent)
            time.sleep(0.1)  # until the news is through
            assert device.call(f"{CALLS}:echo", {"again": 1}, {}, 30).result["arguments"] == {"again": 1}

    def test_closing_ends_everything_and_may_be_repeated(self) -> None:
        device = self.opened()
        child = device.call(f"{CALLS}:echo", {}, {}, 30).result["pid"]
        device.close()
        device.close()
        assert ended(child)

    def test_cleaning_frees_what_is_kept_and_the_device_goes_on(self) -> None:
        with self.opened() as device:
            device.call(f"{CALLS}:echo", {}, {"file": os.urandom(1000)}, 30)
            device.clean()
            assert device.clean() < 1000 + 100_000, "the agent itself at most"
            assert device.call(f"{CALLS}:echo", {}, {"file": b"123"}, 30).files == {"file.back": b"321"}


def ended(process: int) -> bool:
    wait_for(lambda: not running(process))
    return True


def running(process: int) -> bool:
    """Say whether a process runs; one that has ended and waits to be asked about it does not."""
    try:
        state = (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
