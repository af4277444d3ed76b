"""A run in progress: what its steps have done so far, so that `--resume` goes on where a kill stopped it.

The bundle's folder appears only when it is complete; until then everything lies in a hidden folder beside it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from edgeprune.errors import BudgetError, InputError, NumericsError, OverBudgetError
from edgeprune.records import read_json, schema_of, write_json

JOB = "edgeprune.job/1"
STEP = "edgeprune.step/1"

MADE = ("manifest.json", "training.json")
"""By either of these files a folder is known that `export` or `train` wrote."""


_LOADED = {"model_digest": "the network or its weights", "data_digest": "the data"}
"""What of a job is known by its hash alone."""


@contextlib.contextmanager
def reserved(out: Path) -> Iterator[None]:
    """Keep every other run away from `out`.

    Raises:
        InputError: another run is about to write it, or its parent can't be written.
    """
    made = [parent for parent in out.parents if not parent.exists()]
    lock = FileLock(out.parent / f".{out.name}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another run is writing {out}", remedy="wait until it has ended, or name another folder with --out"
        ) from None
    except OSError as error:
        raise InputError(
            f"{out.parent} can't be written: {error.strerror}", remedy="choose another folder with --out"
        ) from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def is_made(folder: Path) -> bool:
    """Whether `export` or `train` wrote a folder: by what the files say, since others have a manifest.json too."""
    return any(schema_of(folder / name).startswith("edgeprune.") for name in MADE)


class Workspace:
    """The hidden folder of one run.

    Args:
        out: the folder that the bundle will have.
        job: what was asked for, as JSON; a run can only be resumed by the same job.
        resume: go on with what is there.
        force: a bundle that is there already may be replaced.

    Raises:
        InputError: the folder can't be written, holds something else, or what is there belongs to another job.
    """

    def __init__(self, out: Path, job: Mapping[str, Any], *, resume: bool = False, force: bool = False) -> None:
        self.out = out
        self.folder = self.folder_of(out)
        started = resume and self.is_started(out)
        self.check(out, resume=resume, force=force)
        self._made: list[Path] = []
        asked = json.loads(json.dumps(job))
        if started:
            before = {k: v for k, v in read_json(self.folder / "job.json", JOB).items() if k != "schema"}
            changed = sorted(name for name in {*before, *asked} if before.get(name) != asked.get(name))
            if changed:
                raise _other_job(self.folder, changed[0], before, asked)
            return
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._made = [parent for parent in self.folder.parents if not parent.exists()]
            self.folder.mkdir(parents=True)
            write_json(self.folder / "job.json", JOB, asked)
        except OSError as error:
            raise InputError(
                f"{self.folder} can't be written: {error.strerror}", remedy="choose another folder with --out"
            ) from error

    @staticmethod
    def folder_of(out: Path) -> Path:
        """Return the hidden folder of the run that makes `out`."""
        return out.parent / f".{out.name}.partial"

    @classmethod
    def is_started(cls, out: Path) -> bool:
        """Whether a run that was to make `out` has not ended."""
        return (cls.folder_of(out) / "job.json").exists()

    @classmethod
    def left(cls, out: Path, name: str) -> dict[str, Any] | None:
        """Return what a step gave in the run that was to make `out` and has not ended; None where it came to none."""
        path = cls.folder_of(out) / f"{name}.json"
        return _result(path) if path.exists() else None

    def once(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what `work` returned, now or in the run that is resumed; it must be JSON."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            write_json(path, STEP, {"result": dict(work())})
        return _result(path)

    def path(self, name: str) -> Path:
        """Return the path of a file of the run."""
        return self.folder / name

    def finish(self, bundle: Path) -> None:
        """Move the complete bundle to its place, and drop the rest; what it replaces is whole until it is there."""
        if self.out.exists():
            replaced = self.path("replaced")
            shutil.rmtree(replaced, ignore_errors=True)
            self.out.rename(replaced)
        bundle.rename(self.out)
        self.discard()

    def __enter__(self) -> Workspace:
        return self

    @classmethod
    def check(cls, out: Path, *, resume: bool, force: bool) -> None:
        """Refuse a folder that may not be replaced; a run that was started was allowed to.

        Raises:
            InputError: it holds something.
        """
        begun = [path for path in cls.folder_of(out).glob("*") if path.name != "job.json"]
        if cls.is_started(out) and begun and not resume and not force:
            raise InputError(
                f"an interrupted run is left in {cls.folder_of(out)}",
                remedy="--resume goes on with it, --force starts again",
            )
        if not out.exists() or not any(out.iterdir()):
            return
        if not force and not (resume and cls.is_started(out)):
            ways = "--force replaces it, --out DIR goes elsewhere"
            raise InputError(
                f"output folder {out} exists already" + (", and no run of it is left to resume" if resume else ""),
                remedy=ways if resume else f"--resume continues an interrupted run, {ways}",
            )
        if not is_made(out):
            raise InputError(
                f"{out} holds something that is neither a bundle nor a checkpoint",
                remedy="name another folder with --out",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind where nothing was done yet and the same command would only fail again.

        What was done is kept for `--resume`, whatever ended the run: a disk that was full has room again later.
        """
        done = any(path.name != "job.json" for path in self.folder.glob("*"))
        if not done and isinstance(error, InputError | BudgetError | NumericsError | OverBudgetError | OSError):
            self.discard()

    def discard(self) -> None:
        """Forget the run, and the folders that were made for it if nothing else is in them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        _remove_empty(self._made)


def _other_job(folder: Path, name: str, before: Mapping[str, Any], asked: Mapping[str, Any]) -> InputError:
    if name in _LOADED:
        said = f"{_LOADED[name]} are not those that the run in {folder} was started with"
    else:
        option = f"--{name.replace('_', '-')}"
        said = f"the run in {folder} was started with {option} {before.get(name)!r}, not {asked.get(name)!r}"
    return InputError(said, remedy="give it what it was started with, or start again with --force")


def _result(path: Path) -> dict[str, Any]:
    return dict(read_json(path, STEP)["result"])
