"""What the scripts need: the checkout's own `.venv`, and programs of the system. Standard library only."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
OLDEST = (3, 11)

_INSTALLED = """
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        version(name)
    except PackageNotFoundError:
        sys.exit(f"{name} is missing")
"""


def ready(extra: str) -> str:
    """Return the path of a Python in which the checkout is installed, editable, with its extra `extra`.

    Raises:
        SystemExit: this Python is too old, or a command failed; it has said why.
    """
    if sys.version_info < OLDEST:
        version = ".".join(map(str, OLDEST))
        sys.exit(
            f"error: Python {sys.version.split()[0]} is older than {version}; run this with python{version} or newer"
        )
    python = str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if not _has_pip(python):
        run(sys.executable, "-m", "venv", "--clear", str(VENV))  # an earlier try may have left it half made
    stamp = VENV / f"edgeprune-{extra}.installed"
    state = _state()
    if not stamp.exists() or stamp.read_text() != state or not _complete(python, extra):
        run(python, "-m", "pip", "install", "--disable-pip-version-check", "-e", f".[{extra}]")
        stamp.write_text(state)
    return python


def ready_program(name: str, package: str, *, needed: bool = True) -> None:
    """Install a Debian package where the program that it brings is missing.

    Args:
        name: the program.
        package: what brings it.
        needed: whether the tests fail without it; else those that use it are skipped, and say so.

    Raises:
        SystemExit: it is needed, missing, and cannot be installed from here; it has said why.
    """
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    if shutil.which(name, path=os.pathsep.join(folders)):
        return
    root = [] if os.geteuid() == 0 else ["sudo"]
    lacking = next((one for one in ("apt-get", *root) if not shutil.which(one)), None)
    if lacking:
        if not needed:
            return
        sys.exit(f"error: the tests need {name}, and there is no {lacking} to install it with; install {package}")
    call(*root, "apt-get", "update", "-q")
    install = [*root, "apt-get", "install", "-q", "-y", "--no-install-recommends", package]
    if needed:
        run(*install)
    else:
        call(*install)


def run(*command: str) -> None:
    """Run a command in the checkout and end the process with its exit code should it fail."""
    code = call(*command)
    if code:
        sys.exit(code)


def call(*command: str) -> int:
    """Print a command, run it in the checkout and return its exit code."""
    print(f"$ {shlex.join(command)}", flush=True)
    process = subprocess.Popen(command, cwd=CHECKOUT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the command got it as well, and says how it ends


def _has_pip(python: str) -> bool:
    if not os.path.exists(python):
        return False
    return subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0


def _state() -> str:
    """Return what an installation depends on: the project file, and where the checkout lies."""
    content = (CHECKOUT / "pyproject.toml").read_bytes()
    return f"{hashlib.sha256(content).hexdigest()} {CHECKOUT} {sys.version_info[:2]}\n"


def _complete(python: str, extra: str) -> bool:
    """Say whether every package that the project and its extra name is there."""
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [project["name"], *project["dependencies"], *project["optional-dependencies"][extra]]
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in wanted]
    return subprocess.run([python, "-c", _INSTALLED, *names], cwd=VENV).returncode == 0
