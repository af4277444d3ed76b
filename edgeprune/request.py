"""The request that a bundle's manifest keeps: as a job that can be run again, and as the command that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.artifacts.contents import file_digest, is_bundle, manifest_digest
from edgeprune.artifacts.workspace import MADE
from edgeprune.errors import InputError
from edgeprune.job import Job
from edgeprune.units import LatencyBudget, format_shape, parse_latency, parse_shape

if TYPE_CHECKING:  # it brings torch, and a report needs none
    from edgeprune.artifacts.subject import Subject

_NOT_KEPT = {"out", "dry_run", "resume", "force", "allow_unverified"}
"""Where the bundle goes and how the run goes: neither makes another bundle."""

_KEYS = {item.name: item.name for item in fields(Job) if item.name not in _NOT_KEPT} | {"input_shape": "input"}
"""Field of a job -> its key in the manifest."""

_READ: Mapping[str, Callable[[Any], Any]] = {"latency": parse_latency, "weights": Path, "input": parse_shape}

_OPTIONS = {"devices": "device"}
"""Key in the manifest -> option, where that is not the key."""


def kept_request(job: Job, subject: Subject) -> dict[str, Any]:
    """Return what makes two runs the same: the request, and the hashes of the network and the data as loaded."""
    asked = {key: _plain(getattr(job, name)) for name, key in _KEYS.items()}
    return asked | {
        "input": format_shape(subject.input_shape),
        "submodule": subject.submodule,
        "model_digest": subject.digest,
        "data_digest": subject.data.digest if subject.data is not None else None,
    }


def job_of(manifest: Mapping[str, Any], out: Path | None = None) -> Job:
    """Return the job that a bundle was made by, to be run again with its bundle in `out`.

    Raises:
        InputError: the network or the data were Python objects, which nothing names.
    """
    asked = _named(manifest)
    given = {name: _read(key, asked[key]) for name, key in _KEYS.items() if asked.get(key) is not None}
    return Job(**given, out=out)


def command_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the words of the command line that makes a bundle again.

    Raises:
        InputError: the network or the data were Python objects, which nothing names.
    """
    asked = _named(manifest)
    words = ["edgeprune", "export", asked["model"]]
    for key in _KEYS.values():
        value, option = asked.get(key), f"--{_OPTIONS.get(key, key).replace('_', '-')}"
        if key == "model" or value is None or value is False or value == "":
            continue
        if value is True:
            words.append(option)
        elif key in ("devices", "lock"):
            words += [word for one in value for word in (option, one)]
        else:
            words += [option, _written(key, value)]
    return words


def can_be_repeated(manifest: Mapping[str, Any]) -> bool:
    """Whether names alone lead to the network and the data: a bundle made from Python objects can't be made again."""
    return bool(manifest["source"]["model"])


def input_digests(job: Job) -> dict[str, str]:
    """Return the SHA-256 of every file that a job names, by the name that it was given by.

    Of a bundle or a checkpoint that is the file which holds those of its others; a folder of images is left to the
    data's own digest.
    """
    digests = {}
    for named in (job.model, str(job.weights) if job.weights else None, job.data):
        if named is None:
            continue
        file, _, function = named.rpartition(":")
        found = Path(file if function.isidentifier() and file else named)
        for path in [found / name for name in MADE] if found.is_dir() else [found]:
            if path.is_file():
                digests[str(path)] = manifest_digest(found) if is_bundle(found) else file_digest(path)
    return digests


def _named(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    asked: Mapping[str, Any] = manifest["job"]
    if not can_be_repeated(manifest):
        raise InputError(
            f"the bundle of {asked['model']} was made from Python objects, which no command names",
            remedy="call edgeprune.export again, and compare with: edgeprune diff",
        )
    return asked


def _plain(value: Any) -> Any:
    """Return a value of a job as JSON has it."""
    if isinstance(value, Path | LatencyBudget):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _read(key: str, value: Any) -> Any:
    """Return the value of a job that a manifest keeps under `key`."""
    if key in _READ:
        return _READ[key](value)
    return tuple(value) if isinstance(value, list) else value


def _written(key: str, value: Any) -> str:
    """Return a value as it is typed."""
    if key == "max_size":
        return f"{value}B"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
