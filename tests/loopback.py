"""A device at the other end of a wire: this machine, behind a real sshd on loopback, with a Python that has a runtime
and nothing else of what EdgePrune needs.

The daemon has its own host key, port and user key, and its sessions have their own PATH and cache folder. The system's
ssh client gets its configuration from a wrapper in front of PATH, since it takes no other home folder.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_SITE = Path(os.path.dirname(os.path.dirname(os.path.abspath(pytest.__file__))))
_RUNTIMES = ("numpy", "onnxruntime", "openvino", "flatbuffers", "google", "packaging", "protobuf")
_ADMIN_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def wait_for(condition: object, limit_s: float = 30) -> None:
    assert callable(condition)
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def bare_python(folder: Path) -> Path:
    """Make a Python in `folder` that can import the runtimes, what they need, and the calls of the tests: no more."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = folder / "lib" / version / "site-packages"
    for entry in _SITE.iterdir():
        if entry.name.partition("-")[0].partition(".")[0] in _RUNTIMES:
            (site / entry.name).symlink_to(entry)
    (site / "tests" / "targets").mkdir(parents=True)
    for name in ("device_calls", "formula_worker"):
        shutil.copy(ROOT / f"tests/targets/{name}.py", site / "tests/targets")
    return folder / "bin" / "python3"


class Wire:
    """A TCP port that leads to another, and that can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._ends: list[socket.socket] = []
        self.passed_bytes = 0
        self.cut_after: int | None = None
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Cut, and take no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                self.connections += 1
                self._ends += [here, there]
                for source, target, counts in ((here, there, True), (there, here, False)):
                    threading.Thread(target=self._pass, args=(source, target, counts), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 18):
                target.sendall(block)
                self.passed_bytes += len(block) if counts else 0
                if self.cut_after is not None and self.passed_bytes >= self.cut_after:
                    self.cut_after = None
                    self.cut()
            target.shutdown(socket.SHUT_WR)


class Loopback:
    """The daemon, and the client's configuration.

    Attributes:
        folder: where all of it is.
        python: the device's.
        cache: the device's cache folder.
        port: the daemon's.
    """

    def __init__(self, folder: Path) -> None:
        sshd = shutil.which("sshd", path=_ADMIN_PATH)
        assert sshd, "there is no sshd: apt-get install openssh-server (tools/check.py does it)"
        self.folder = folder
        self.python = bare_python(folder / "python")
        self.cache = folder / "cache" / "edgeprune"
        self.port = free_port()
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("host_key", "other_host_key", "key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        self.know("host_key")
        self._write_configuration(folder)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's daemon separates its privileges there
        self._log = open(folder / "sshd.log", "w")  # noqa: SIM115  (for as long as the daemon)
        command = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
        self._daemon = subprocess.Popen(command, stderr=self._log, stdin=subprocess.DEVNULL)
        wait_for(self._answers)

    def address(self, port: int | None = None) -> str:
        """Return what stands after --device."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{port or self.port}"

    def know(self, key: str, *ports: int) -> None:
        """Let the client know the device by a key, at its own port and these."""
        kind, content, *_ = (self.folder / f"{key}.pub").read_text().split()
        lines = [f"[127.0.0.1]:{port} {kind} {content}\n" for port in (self.port, *ports)]
        (self.folder / "known_hosts").write_text("".join(lines))

    @contextlib.contextmanager
    def wired(self) -> Iterator[Wire]:
        """Yield a wire in front of the daemon."""
        wire = Wire(self.port)
        self.know("host_key", wire.port)
        try:
            yield wire
        finally:
            wire.close()
            self.know("host_key")

    @contextlib.contextmanager
    def instead_of_python(self, script: str) -> Iterator[None]:
        """Let the device's python3 be a shell script for a while."""
        kept = self.python.with_name("kept")
        self.python.rename(kept)
        self.python.write_text(f"#!/bin/sh\n{script}\n")
        self.python.chmod(0o755)
        try:
            yield
        finally:
            kept.replace(self.python)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the device, as a person would."""
        command = [str(self.bin / "ssh"), "-p", str(self.port), f"{getpass.getuser()}@127.0.0.1", shlex.join(words)]
        return subprocess.run(command, capture_output=True, text=True)

    def agents(self) -> list[int]:
        """Return the processes on the device that were started from its cache folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.cache).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def kept(self) -> list[str]:
        """Return the files that are on the device."""
        return sorted(str(path.relative_to(self.cache)) for path in self.cache.rglob("*") if path.is_file())

    def stop(self) -> None:
        """End the daemon and what it serves."""
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(timeout=30)
        self._log.close()

    def _answers(self) -> bool:
        assert self._daemon.poll() is None, (self.folder / "sshd.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def _write_configuration(self, folder: Path) -> None:
        environment = {
            "PATH": f"{self.python.parent}:/usr/bin:/bin",
            "HOME": str(folder),  # what the user has set up for shells stays out
            "XDG_CACHE_HOME": str(self.cache.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        daemon = [
            f"ListenAddress 127.0.0.1:{self.port}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            f"PidFile {self.folder / 'sshd.pid'}",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 100",
            f"SetEnv {' '.join(f'{name}={value}' for name, value in environment.items())}",
        ]
        (self.folder / "sshd_config").write_text("\n".join(daemon) + "\n")
        client = [
            "Host *",
            f"IdentityFile {self.folder / 'key'}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.folder / 'known_hosts'}",
            "GlobalKnownHostsFile /dev/null",
        ]
        (self.folder / "ssh_config").write_text("\n".join(client) + "\n")
        wrapper = self.bin / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.folder / "ssh_config"} "$@"\n')
        wrapper.chmod(0o755)
