"""Devices behind ssh, on a real sshd: what a device must do, and what becomes of everything that can go wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeprune.errors import DeviceError, MissingError
from edgeprune.targets import ssh_failures
from edgeprune.targets.address import Address
from edgeprune.targets.device import Device
from edgeprune.targets.devices import open_device
from edgeprune.targets.frames import PROTOCOL
from edgeprune.targets.packing import packed_agent, starter
from edgeprune.targets.peer import Peer
from edgeprune.targets.ssh import SshDevice, command
from tests.contracts.device_contract import CALLS, DeviceContract, ended, running
from tests.listening import Listening
from tests.loopback import Loopback, Wire, wait_for

MB = 1_000_000


class TestSshDevice(DeviceContract):
    address: str

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def behind(cls, loopback: Loopback) -> None:
        cls.address = loopback.address()

    @classmethod
    def opened(cls) -> Device:
        return open_device(cls.address)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(SshDevice, "pauses_s", (0.0, 0.0))


def works(address: str) -> bool:
    """Say whether a try of its own succeeds."""
    with open_device(address) as device:
        return device.call(f"{CALLS}:echo", {"a": 1}, {"b": b"12"}, 30).files == {"b.back": b"21"}


def refusal(address: str) -> MissingError:
    """Return why the device can't be reached: one line, what to do, exit code 3."""
    with open_device(address) as device, pytest.raises(MissingError) as caught:
        device.call(f"{CALLS}:echo", {}, {}, 30)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_the_device_has_its_runtimes_and_nothing_of_ours(loopback: Loopback) -> None:
    for package, there in (("numpy", 0), ("openvino", 0), ("onnxruntime", 0), ("torch", 1), ("edgeprune", 1)):
        assert loopback.run("python3", "-c", f"import {package}").returncode == there, package


def test_what_runs_there_is_what_was_sent(loopback: Loopback) -> None:
    with open_device(loopback.address()) as device:
        found = device.call(f"{CALLS}:versions", {}, {}, 30).result
    assert found["edgeprune"].startswith(str(loopback.cache / "agent-"))


def test_nothing_is_left_but_the_cache_folder_and_that_can_be_emptied(loopback: Loopback) -> None:
    with open_device(loopback.address()) as device:
        device.call(f"{CALLS}:echo", {}, {"x.onnx": b"content"}, 30)
        device.close()
        wait_for(lambda: not loopback.agents())
        assert {name.partition("/")[0].partition("-")[0] for name in loopback.kept()} == {"agent", "files"}
        assert device.clean() >= len(b"content") + len(packed_agent())
    wait_for(lambda: not loopback.agents())
    assert loopback.kept() == []
    assert works(loopback.address())


def test_a_file_that_is_there_is_not_sent_again(loopback: Loopback, wire: Wire) -> None:
    content = os.urandom(2 * MB)
    with open_device(loopback.address(wire.port)) as device:
        for sent_bytes in (2 * MB, 0):
            before = wire.passed_bytes
            device.call(f"{CALLS}:measure", {}, {"one": content, "the same": content}, 30)
            assert sent_bytes <= wire.passed_bytes - before < sent_bytes + len(packed_agent()) + 20_000


@pytest.mark.parametrize("size_mb", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_large_file_comes_through_a_connection_that_is_cut_in_the_middle(
    size_mb: int, loopback: Loopback, wire: Wire, tmp_path: Path, quick: None
) -> None:
    """The 200 MB: `pytest -m slow tests/targets/test_ssh.py`."""
    large = tmp_path / "large"
    with open(large, "wb") as target:
        target.truncate(size_mb * MB)
    wire.cut_after = size_mb * MB * 3 // 5
    progress = Listening()
    with open_device(loopback.address(wire.port), progress) as device:
        found = device.call(f"{CALLS}:measure", {}, {"large": large}, 120).result
        device.clean()
    assert found["large"] == [size_mb * MB, subprocess.check_output(["sha256sum", large], text=True).split()[0]]
    assert wire.connections == 2
    address = loopback.address(wire.port)
    assert progress.said == [f"the connection to {address} was cut: it is taken up again, try 2 of 3"]
    assert wire.passed_bytes < size_mb * MB * 5 // 4, "it went on where it stopped"


def test_a_cut_in_the_middle_of_a_call_is_made_good(loopback: Loopback, wire: Wire, quick: None) -> None:
    with open_device(loopback.address(wire.port)) as device:
        first = device.call(f"{CALLS}:echo", {}, {}, 30).result
        wire.cut()
        second = device.call(f"{CALLS}:echo", {"again": 1}, {}, 30).result
        assert second["arguments"] == {"again": 1}
        assert second["agent"] != first["agent"]
        assert ended(first["agent"])
        assert ended(first["pid"])


def test_an_agent_that_has_not_noticed_the_cut_is_ended_before_another_measures(
    loopback: Loopback, quick: None
) -> None:
    with open_device(loopback.address()) as device:
        first = device.call(f"{CALLS}:echo", {}, {}, 30).result
        daemon = int(Path(f"/proc/{first['agent']}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(daemon, signal.SIGSTOP)  # as if the other end were out of reach: it hears of no cut
        try:
            assert isinstance(device, SshDevice)
            assert device._peer
            os.kill(device._peer._process.pid, signal.SIGKILL)
            device._peer._process.wait()
            assert running(first["agent"])
            assert device.call(f"{CALLS}:echo", {}, {}, 30).result["agent"] != first["agent"]
            assert ended(first["agent"])
            assert ended(first["pid"])
        finally:
            os.kill(daemon, signal.SIGCONT)


def test_a_connection_that_is_cut_every_time_is_given_up(loopback: Loopback, wire: Wire, quick: None) -> None:
    progress = Listening()
    with open_device(loopback.address(wire.port), progress) as device:
        device.call(f"{CALLS}:echo", {}, {}, 30)
        wire.close()
        with pytest.raises(DeviceError, match=r"cannot be reached: .*Connection refused") as caught:
            device.call(f"{CALLS}:echo", {}, {}, 30)
    assert caught.value.exit_code == 3
    assert [line.rpartition(", ")[2] for line in progress.said] == ["try 2 of 3", "try 3 of 3"]
    loopback.know("host_key")
    assert works(loopback.address())


@pytest.mark.parametrize(("times", "goes_on"), [(1, True), (100, False)])
def test_an_agent_that_is_killed_is_started_again_so_often(
    times: int, goes_on: bool, loopback: Loopback, tmp_path: Path, quick: None
) -> None:
    arguments = {"note": str(tmp_path / "note"), "times": times}
    with open_device(loopback.address()) as device:
        if goes_on:
            assert device.call(f"{CALLS}:end_agent", arguments, {}, 30).result == {"killed": 1}
        else:
            with pytest.raises(DeviceError, match="went away 3 times"):
                device.call(f"{CALLS}:end_agent", arguments, {}, 30)
    assert works(loopback.address())


def test_a_host_that_goes_away_ends_all_that_it_started(loopback: Loopback, tmp_path: Path) -> None:
    with open_device(loopback.address()) as device:
        found = device.call(f"{CALLS}:echo", {}, {}, 30).result
        assert isinstance(device, SshDevice)
        assert device._peer
        os.kill(device._peer._process.pid, signal.SIGKILL)
        assert ended(found["agent"])
        assert ended(found["pid"])


def test_a_full_disk_is_told_and_not_left_full(loopback: Loopback) -> None:
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", loopback.cache]).returncode:
        pytest.skip("mounting a small disk takes root; test_cache.py fakes a full one in any case")
    try:
        # Room for the question, none for the answer: the file fits when it is asked for, and no more when it comes.
        with open_device(loopback.address()) as device:
            with pytest.raises(DeviceError, match=r"has \d MB free, 20 MB are needed") as caught:
                device.call(f"{CALLS}:measure", {}, {"large": bytes(20 * MB)}, 30)
            assert caught.value.exit_code == 3
            with pytest.raises(DeviceError, match="disk is full"):
                device.call(f"{CALLS}:echo", {}, {"large": bytes(5 * MB)}, 30)
            assert device.call(f"{CALLS}:echo", {}, {"small": b"12"}, 30).files == {"small.back": b"21"}
        (loopback.cache / "ballast").write_bytes(bytes(2 * MB))
        with pytest.raises(OSError, match="No space"), open(loopback.cache / "files" / "ballast", "wb") as target:
            target.write(bytes(20 * MB))
        assert works(loopback.address()), "the agent makes room for itself"
    finally:
        wait_for(lambda: not loopback.agents())
        subprocess.run(["umount", loopback.cache], check=True)


def test_a_refused_key(loopback: Loopback) -> None:
    keys = loopback.folder / "authorized_keys"
    accepted = keys.read_text()
    keys.write_text((loopback.folder / "other_key.pub").read_text())
    error = refusal(loopback.address())
    assert "accepts none of your keys" in error.message
    assert "ssh-copy-id -p" in error.remedy
    assert "Permission denied" in str(error.__cause__), "--debug shows what ssh said"
    keys.write_text(accepted)
    assert works(loopback.address())


def test_a_changed_host_key(loopback: Loopback) -> None:
    loopback.know("other_host_key")
    error = refusal(loopback.address())
    assert "host key" in error.message
    assert "has changed" in error.message
    assert f"ssh-keygen -f {loopback.folder / 'known_hosts'} -R '[127.0.0.1]:{loopback.port}'" in error.remedy
    loopback.know("host_key")
    assert works(loopback.address())


def test_an_unknown_host_key(loopback: Loopback) -> None:
    (loopback.folder / "known_hosts").write_text("")
    assert "not known yet" in refusal(loopback.address()).message
    loopback.know("host_key")


@pytest.mark.parametrize(
    ("host", "words"),
    [("127.0.0.1:1", "Connection refused"), ("no-such-host.invalid", "Could not resolve hostname")],
)
def test_an_address_where_nothing_is(loopback: Loopback, host: str, words: str) -> None:
    began = time.monotonic()
    assert words in refusal(f"ssh://me@{host}").message
    assert time.monotonic() - began < 15, "what was never reached is not tried again"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo Welcome to the board", r"not the agent: b'Welc' is not the start of a frame"),
        ("printf '\\000\\000\\000\\004nope'", r"not the agent: b'nope' is not the header"),
        (
            """printf '\\000\\000\\000\\053{"agent": "edgeprune-agent/9", "files": []}'""",
            "it speaks 'edgeprune-agent/9', not",
        ),
        ("echo edgeprune: Python 3.8 or newer is needed, this is 3.6.9 >&2; exit 1", "Python 3.8 or newer is needed"),
        ("echo what >&2; exit 9", r"did not start \(code 9\): what"),
        ("exit 0", r"did not start \(code 0\)"),
        ("kill -9 $$", "cannot be reached: the connection ended"),
    ],
)
def test_what_answers_is_not_the_agent(loopback: Loopback, script: str, words: str) -> None:
    with loopback.instead_of_python(script), pytest.raises(MissingError, match=words) as caught:
        works(loopback.address())
    assert caught.value.exit_code == 3
    assert works(loopback.address())


def test_a_python_that_is_not_there(loopback: Loopback) -> None:
    assert "has no /no/such/python" in refusal(f"{loopback.address()}/no/such/python").message


def test_garbage_in_the_middle_is_told_and_a_second_try_works(loopback: Loopback) -> None:
    with open_device(loopback.address()) as device:
        with pytest.raises(DeviceError, match=r"stopped answering .*b'nois' is not the start of a frame"):
            device.call(f"{CALLS}:disturb", {}, {}, 30)
        assert device.call(f"{CALLS}:echo", {}, {}, 30).result


def test_a_machine_without_ssh_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "openssh-client" in refusal("ssh://me@board").remedy


def test_the_starter_passes_every_shell() -> None:
    assert not set("'!") & set(starter())


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish", "tcsh"])
def test_a_login_shell_passes_the_starter_on(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    agent = packed_agent()
    told = [str(len(agent)), hashlib.sha256(agent).hexdigest()]
    peer = Peer([shell, "-c", command(Address("", "ssh", "board", python=sys.executable), told)[-1]])
    try:
        peer.stream.write(agent)
        assert peer.stream.header(time.monotonic() + 30)[0]["agent"] == PROTOCOL
    finally:
        assert peer.end(grace_s=10) == 0
    assert (tmp_path / "edgeprune" / f"agent-{told[1][:16]}.pyz").read_bytes() == agent


def test_what_is_sent_does_not_depend_on_when_it_is_packed() -> None:
    packed_agent.cache_clear()
    first = packed_agent()
    packed_agent.cache_clear()
    assert packed_agent() == first


def test_by_hand() -> None:
    assert ssh_failures.by_hand(Address.parse("ssh://me@board:2222")) == "ssh -p 2222 me@board"
    assert ssh_failures.by_hand(Address.parse("ssh://board")) == "ssh board"
