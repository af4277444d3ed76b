from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import DeviceError, InputError
from edgeprune.targets import cache as module
from edgeprune.targets.cache import Cache
from edgeprune.targets.frames import Closed


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def keep(cache: Cache, content: bytes) -> str:
    name = digest(content)
    for start in cache.lacks({name: len(content)}).values():
        cache.store(name, start, [content[start:]])
    return name


def files(cache: Cache) -> set[str]:
    return {path.name for path in (cache.folder / "files").iterdir()}


def test_a_file_is_lent_as_it_came(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "deep" / "cache")
    name = keep(cache, b"content")
    assert cache.lacks({name: 7}) == {}
    cache.lend(name, tmp_path / "0.onnx")
    assert (tmp_path / "0.onnx").read_bytes() == b"content"
    cache.clean()
    assert (tmp_path / "0.onnx").read_bytes() == b"content", "it stays while it is used"
    with pytest.raises(DeviceError, match="is not on the device any more"):
        cache.lend(name, tmp_path / "1.onnx")


def test_cleaning_takes_what_the_runtimes_keep_as_well(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keep(cache, b"content")
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "0123.timing").write_bytes(b"timed")
    assert cache.clean() == len(b"content") + len(b"timed")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@given(st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=4))
def test_it_goes_on_where_it_was_cut(content: bytes, cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache, name = Cache(Path(folder)), digest(content)
        for cut in sorted(cuts):
            for start in cache.lacks({name: len(content)}).values():
                with pytest.raises(Closed):
                    cache.store(name, start, broken(content[start:cut]))
                assert cache.lacks({name: len(content)}) == {name: max(start, min(cut, len(content)))}
        assert keep(cache, content) == name
        assert files(cache) == {name}


def broken(content: bytes) -> Iterator[bytes]:
    yield content
    raise Closed("cut")


def test_a_part_that_cannot_be_one_is_begun_again(tmp_path: Path) -> None:
    cache, name = Cache(tmp_path), digest(b"content")
    (tmp_path / "files" / f"{name}.part").write_bytes(b"more than the content")
    assert cache.lacks({name: 7}) == {name: 0}
    assert keep(cache, b"content") == name


def test_what_arrives_damaged_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(DeviceError, match="arrived damaged"):
        cache.store(digest(b"right"), 0, [b"wrong"])
    assert files(cache) == set()


def test_a_full_disk_is_not_left_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is a fake here: its second write says ENOSPC. test_ssh.py has a real one where it may mount it."""
    usual, writes = module._write, []

    def write(target: object, block: bytes) -> None:
        writes.append(block)
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(target, block)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_write", write)
    cache = Cache(tmp_path)
    with pytest.raises(OSError, match="No space"):
        cache.store(digest(b"abcd"), 0, [b"ab", b"cd"])
    assert files(cache) == set()
    monkeypatch.undo()
    assert keep(cache, b"abcd") in files(cache)


def test_what_does_not_fit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with pytest.raises(DeviceError, match="MB are needed"):
        Cache(tmp_path).lacks({digest(b"large"): 2 * free})


def test_the_oldest_goes_first_when_there_is_too_much(tmp_path: Path) -> None:
    cache = Cache(tmp_path, keep_bytes=250)
    names = [keep(cache, bytes([number]) * 100) for number in range(3)]
    for age, name in enumerate(names):
        os.utime(tmp_path / "files" / name, (1000 + age, 1000 + age))
    cache.lacks({names[0]: 100})  # asked for, so the second is the oldest now
    assert files(cache) == {*names}, "what is asked for counts for nothing"
    keep(cache, b"new" * 20)
    assert names[1] not in files(cache)
    assert {names[0], names[2]} <= files(cache)


def test_two_agents_do_not_write_one_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_LIMIT_S", 0.0)
    cache, name = Cache(tmp_path), digest(b"content")
    with open(tmp_path / "files" / f"{name}.part", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match="another run"):
            cache.store(name, 0, [b"content"])
    assert keep(cache, b"content") == name


def test_work_is_gone_at_its_end_and_after_a_kill(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.work() as folder:
        (folder / "file").touch()
        Cache(tmp_path)
        assert folder.exists(), "another agent leaves it"
    assert not folder.exists()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f"work-{gone.pid}-x"
    left.mkdir()
    Cache(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("name", ["", "../x", "A" * 64, "0" * 63])
def test_a_name_that_is_no_hash_leads_nowhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="SHA-256"):
        Cache(tmp_path).lend(name, tmp_path / "x")
