from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.errors import DeviceError
from edgeprune.progress import Silent
from edgeprune.targets.local import LocalDevice
from edgeprune.targets.peer import Peer
from tests.contracts.device_contract import CALLS, DeviceContract, ended
from tests.loopback import wait_for


class TestLocalDevice(DeviceContract):
    @classmethod
    def opened(cls) -> LocalDevice:
        return LocalDevice()


def test_a_device_that_is_let_go_of_between_two_tries_is_not_started_again(tmp_path: Path) -> None:
    class Leaving(Silent):
        def say(self, line: str) -> None:
            device.close()

    class Retrying(LocalDevice):
        pauses_s = (0.0,)
        started = 0

        def _start(self) -> Peer:
            self.started += 1
            return super()._start()

    device = Retrying()
    device._progress = Leaving()
    with pytest.raises(DeviceError, match="let go of"):
        device.call(f"{CALLS}:end_agent", {"note": str(tmp_path / "note"), "times": 1}, {}, 30)
    assert device.started == 1


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
