from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import InputError
from edgeprune.records import append_lines, read_json, read_lines, write_bytes, write_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(content=st.dictionaries(st.text().filter(lambda key: key != "schema"), values, max_size=4))
def test_an_object_reads_back_as_written(tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("records") / "x.json"
    write_json(path, "edgeprune.test/1", content)
    assert read_json(path, "edgeprune.test/1") == {"schema": "edgeprune.test/1", **content}
    assert path.read_text(encoding="utf-8").startswith('{\n "schema": "edgeprune.test/1"')


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"schema": "edgeprune.test/2"}', "edgeprune.test/2"), ("[1]", "None"), ("{", "JSON"), (b"\xff", "JSON")],
)
def test_what_is_no_such_object_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said):
        read_json(path, "edgeprune.test/1")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_json(tmp_path / "x.json", "edgeprune.test/1")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_bytes(tmp_path / "ours", b"")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.jsonl"
    append_lines(path, [{"a": 1}])
    append_lines(path, [{"a": 2}, {"a": 3}])
    assert list(read_lines(path)) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert list(read_lines(tmp_path / "missing")) == []


def test_a_torn_line_is_passed_over_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"a": 1}) + "\n" + '{"a": ')
    append_lines(path, [{"a": 2}])
    assert list(read_lines(path)) == [{"a": 1}, {"a": 2}]


def test_what_json_does_not_have_becomes_null(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", "test/1", {"numerics": {"slim": float("inf"), "onnx": [float("nan"), 1.5]}})
    assert read_json(tmp_path / "x.json", "test/1")["numerics"] == {"slim": None, "onnx": [None, 1.5]}
