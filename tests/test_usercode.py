import sys
from pathlib import Path

import pytest

from edgeprune.errors import InputError
from edgeprune.usercode import call_function, is_function_name

CODE = """
from neighbour import NUMBER

def answer():
    return NUMBER

def fails():
    inner()

def inner():
    raise ValueError("no\\nsecond line")

def quits():
    raise SystemExit(3)

number = 5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("NUMBER = 42\n")
    own = tmp_path / "own.py"
    own.write_text(CODE)
    return own


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.py:f", True), ("a/b.py", True), ("demo", False), ("timm:resnet18", False), ("data.npz", False)],
)
def test_what_is_taken_for_a_function(text: str, expected: bool) -> None:
    assert is_function_name(text) is expected


def test_the_function_is_called_and_may_import_its_neighbours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    assert call_function(f"{path}:answer") == 42
    assert sys.path == [*before, str(path.parent)]  # behind all that is installed


def test_what_it_returned_may_import_its_neighbours_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (path.parent / "late_neighbour.py").write_text("NUMBER = 7\n")
    path.write_text(
        "def make():\n    def forward():\n        import late_neighbour\n"
        "        return late_neighbour.NUMBER\n    return forward\n"
    )
    assert call_function(f"{path}:make")() == 7


def test_what_it_raises_is_told_in_one_line_with_its_place(path: Path) -> None:
    with pytest.raises(InputError) as caught:
        call_function(f"{path}:fails")
    assert caught.value.message == f"{path}:11 raised ValueError: no"


def test_leaving_python_is_an_error_like_any_other(path: Path) -> None:
    with pytest.raises(InputError, match=r"own\.py:14 raised SystemExit: 3"):
        call_function(f"{path}:quits")


def test_a_file_that_does_not_import(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_that_name\n")
    with pytest.raises(InputError, match=r"broken\.py:1 raised ModuleNotFoundError"):
        call_function(f"{path}:f")


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ndef f(:\n")
    with pytest.raises(InputError, match=r"broken\.py:2 raised SyntaxError"):
        call_function(f"{path}:f")


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (":anwser", "no function 'anwser' \\(did you mean 'answer'\\?\\)"),
        (":number", "no function 'number'"),
        ("", "which function"),
    ],
)
def test_functions_that_are_not_there(path: Path, ending: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        call_function(f"{path}{ending}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.py does not exist"):
        call_function(f"{tmp_path / 'gone.py'}:f")
