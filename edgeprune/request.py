"""The request that a bundle's manifest keeps: as a job that can be run again, and as the command that does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.artifacts.contents import file_digest
from edgeprune.errors import InputError
from edgeprune.job import Job
from edgeprune.units import parse_latency, parse_shape

_OPTIONS = (
    "weights",
    "input",
    "submodule",
    "data",
    "mean",
    "std",
    "target",
    "latency",
    "precision",
    "threads",
    "seed",
    "epochs",
    "max_drop",
    "align",
    "rounds",
    "criterion",
)
_REPEATED = {"devices": "device", "lock": "lock"}
_FLAGS = ("allow_inexact",)


def job_of(manifest: Mapping[str, Any], out: Path | None = None) -> Job:
    """Return the job that a bundle was made by, to be run again with its bundle in `out`.

    Raises:
        InputError: the network or the data were Python objects, which nothing names.
    """
    asked = _named(manifest)
    return Job(
        model=asked["model"],
        target=asked["target"],
        latency=parse_latency(asked["latency"]),
        weights=Path(asked["weights"]) if asked.get("weights") else None,
        input_shape=parse_shape(asked["input"]) if asked.get("input") else None,
        submodule=asked.get("submodule") or "",
        data=asked.get("data"),
        mean=tuple(asked["mean"]) if asked.get("mean") else None,
        std=tuple(asked["std"]) if asked.get("std") else None,
        precision=asked.get("precision"),
        threads=asked.get("threads"),
        devices=tuple(asked.get("devices") or ("local",)),
        out=out,
        seed=asked["seed"],
        epochs=asked.get("epochs"),
        max_drop=asked.get("max_drop"),
        lock=tuple(asked.get("lock") or ()),
        allow_inexact=bool(asked.get("allow_inexact")),
        align=asked.get("align"),
        rounds=asked["rounds"],
        criterion=asked.get("criterion"),
    )


def command_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the words of the command line that makes a bundle again.

    Raises:
        InputError: the network or the data were Python objects, which nothing names.
    """
    asked = _named(manifest)
    words = ["edgeprune", "export", asked["model"]]
    for name in _OPTIONS:
        if asked.get(name) not in (None, ""):
            words += [f"--{name.replace('_', '-')}", _written(asked[name])]
    for name, option in _REPEATED.items():
        for value in asked.get(name) or ():
            words += [f"--{option}", value]
    return words + [f"--{name.replace('_', '-')}" for name in _FLAGS if asked.get(name)]


def can_be_repeated(manifest: Mapping[str, Any]) -> bool:
    """Whether names alone lead to the network and the data: a bundle made from Python objects can't be made again."""
    asked = manifest["job"]
    lost = asked.get("data") is None and asked.get("data_digest") is not None and asked["model"] != "demo"
    return bool(manifest["source"]["model"]) and not lost


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
        for path in (found / "manifest.json", found / "training.json") if found.is_dir() else (found,):
            if path.is_file():
                digests[str(path)] = file_digest(path)
    return digests


def _named(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    asked: Mapping[str, Any] = manifest["job"]
    if not can_be_repeated(manifest):
        raise InputError(
            f"the bundle of {asked['model']} was made from Python objects, which no command names",
            remedy="call edgeprune.export again, and compare with: edgeprune diff",
        )
    return asked


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
