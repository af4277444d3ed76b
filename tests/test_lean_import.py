"""Help and everything that only reads tables must not wait for, or need, torch and the runtimes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "accelerate",
    "jinja2",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "rich",
    "scipy",
    "tensorrt",
    "torch",
    "torchvision",
}

SCRIPT = """
import sys
from edgeprune.cli.main import run
code = run(sys.argv[1:])
print("LOADED", code, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded_by(*arguments: str, folder: Path, ends_with: int = 0) -> set[str]:
    """Run one command line in a Python of its own; return the packages that it loaded."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], cwd=folder, capture_output=True, text=True)
    label, code, *names = done.stdout.splitlines()[-1].split()
    assert (label, code) == ("LOADED", str(ends_with)), done.stderr
    return set(names)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("export", "--help"), ("--version",)], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert not loaded_by(*arguments, folder=tmp_path) & HEAVY


@pytest.mark.parametrize("verb", [("targets", "--json"), ("export", "--show-config", "--json")], ids=" ".join)
def test_tables_are_read_without_torch_and_runtimes(verb: tuple[str, ...], tmp_path: Path) -> None:
    assert not loaded_by(*verb, folder=tmp_path) & (HEAVY - {"numpy"})


def test_a_board_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    asked = ("export", "demo", "--target", "jetson", "--latency", "10ms")
    assert not loaded_by(*asked, folder=tmp_path, ends_with=3) & (HEAVY - {"numpy"})
    assert not list(tmp_path.iterdir())
