from __future__ import annotations

import errno

import pytest

from edgeprune.cli.failures import continue_with, foreseen


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_a_disk_that_refuses_is_no_bug(code: int) -> None:
    error = foreseen(OSError(code, "refused", "runs/x/model.onnx"), ["export"])
    assert (error.exit_code, error.message) == (2, "runs/x/model.onnx: refused")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 PB")])
def test_too_little_memory_is_no_bug(error: Exception) -> None:
    found = foreseen(error, ["export"])
    assert (found.exit_code, found.message.partition(":")[0]) == (2, "the memory is not enough")


def test_other_errors_of_the_system_are_bugs() -> None:
    assert foreseen(OSError(errno.EIO, "broken"), []).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "demo", "--force"], "continue with: edgeprune export demo --resume"),
        (["export", "demo", "--resume"], "continue with: edgeprune export demo --resume"),
        (["export", "demo", "--dry-run"], "run it again: edgeprune export demo --dry-run"),
        (["profile", "a b"], "run it again: edgeprune profile 'a b'"),
    ],
)
def test_how_an_interrupted_run_is_taken_up(arguments: list[str], said: str) -> None:
    assert continue_with(arguments) == said


def test_a_run_of_which_nothing_is_left_is_started_again_as_it_was() -> None:
    assert continue_with(["train", "demo", "--force"], resumable=False) == "run it again: edgeprune train demo --force"
