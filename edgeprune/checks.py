"""What is refused of a request before torch is loaded or a device is started; each check raises with what was seen."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune import usercode
from edgeprune.artifacts.workspace import MADE, Workspace
from edgeprune.errors import InputError, UnreachableError, nearest
from edgeprune.latency.folders import fingerprints_in, tables_folder
from edgeprune.targets.devices import check_reach
from edgeprune.targets.target import Target
from edgeprune.units import format_shape

MODEL_FORMS = "demo, torchvision:NAME, timm:NAME or FILE.py:FUNCTION"


def check_known(option: str, name: str | None, known: Sequence[str]) -> None:
    """Refuse a name that is none of those known; None is left to a default.

    Raises:
        InputError: with the nearest one that is known.
    """
    if name is not None and name not in known:
        raise InputError(f"--{option} {name!r} is unknown{nearest(name, known)}", remedy=f"use {', '.join(known)}")


def check_precision(precision: str | None, target: Target) -> None:
    """Refuse a precision that a target does not have; None is left to the target.

    Raises:
        InputError: with those that it has.
    """
    if precision is not None and precision not in target.precisions:
        raise InputError(
            f"precision {precision!r} is not for target {target.name}{nearest(precision, target.precisions)}",
            remedy=f"use {', '.join(target.precisions)}",
        )


def check_model(model: str) -> None:
    """Refuse a model of no known form.

    Raises:
        InputError: with what was seen.
    """
    if usercode.is_function_name(model):
        _check_function(model)
    elif model != "demo" and not model.startswith(("torchvision:", "timm:")) and not _is_made(Path(model)):
        hint = nearest(model, ["demo", "torchvision:", "timm:"])
        raise InputError(f"model {model!r} is unknown{hint}", remedy=f"name {MODEL_FORMS}")


def check_files(weights: Path | None, data: str | None) -> None:
    """Refuse weights and data that are not there.

    Raises:
        InputError: with what was seen.
    """
    if weights is not None and not weights.is_file() and not _is_made(weights):
        problem = "is a folder" if weights.is_dir() else "does not exist"
        raise InputError(f"weights file {weights} {problem}", remedy="check the path given to --weights")
    if data is None or data == "demo":
        return
    if usercode.is_function_name(data):
        _check_function(data)
    elif not Path(data).exists():
        raise InputError(
            f"data {data} does not exist",
            remedy="name a folder with train/ and val/, a FILE.npz, FILE.py:FUNCTION or demo",
        )


def _is_made(folder: Path) -> bool:
    return any((folder / name).is_file() for name in MADE)


def _check_function(text: str) -> None:
    path = usercode.path_of(text)
    if not path.is_file():
        raise InputError(f"{path} does not exist", remedy="check the path in FILE.py:FUNCTION")
    if path == Path(text):
        raise InputError(f"{text} does not say which function to call", remedy=f"write it like {text}:FUNCTION")


def check_input(shape: tuple[int, ...] | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
    """Refuse a shape or a normalisation that can't be.

    Raises:
        InputError: with what was seen.
    """
    if shape is not None and (len(shape) < 2 or shape[0] != 1):
        raise InputError(
            f"input {format_shape(shape)} is not one sample with its batch dimension",
            remedy="latency is that of one sample: write it like 1x3x224x224",
        )
    if (mean is None) != (std is None):
        given, other = ("--std", "--mean") if mean is None else ("--mean", "--std")
        raise InputError(f"{given} was given without {other}", remedy="give both, or neither")
    if mean is None or std is None:
        return
    if len(mean) != len(std):
        raise InputError(
            f"--mean has {len(mean)} values and --std has {len(std)}", remedy="give one value per channel to each"
        )
    if not all(map(math.isfinite, mean)) or not all(value > 0 and math.isfinite(value) for value in std):
        raise InputError(f"--mean {mean} --std {std} cannot be divided by", remedy="give finite means and stds above 0")
    if shape is not None and len(shape) > 2 and len(mean) != shape[1]:
        raise InputError(
            f"--mean has {len(mean)} values and the input has {shape[1]} channels", remedy="give one value a channel"
        )


def check_least(job: object, least: Mapping[str, float]) -> None:
    """Refuse numbers below their bounds: option -> the least that it may be.

    Raises:
        InputError: one is.
    """
    for name, bound in least.items():
        value = getattr(job, name.replace("-", "_"))
        if value is not None and not value >= bound:  # not (value < bound): NaN is refused as well
            raise InputError(f"--{name} {value} is below {bound}", remedy=f"give --{name} {bound} or more")


def check_devices(target: Target, devices: Sequence[str]) -> None:
    """Refuse devices that can't be of a target; one out of reach is let pass where an earlier table may stand for it.

    Raises:
        InputError: no address, or one that was named twice.
        UnreachableError: it can't be reached, and nothing was ever measured with the target's runtime.
    """
    for device in devices:
        try:
            check_reach(target, device)
        except UnreachableError:
            if not any(one.get("runtime") == target.runtime for one in fingerprints_in(tables_folder())):
                raise
        if devices.count(device) > 1:
            raise InputError(f"device {device} was named twice", remedy="name every device once")


def check_resume(*, resume: bool, force: bool) -> None:
    """Refuse to go on with a run and to replace it.

    Raises:
        InputError: both were asked for.
    """
    if resume and force:
        raise InputError(
            "--resume and --force were both given",
            remedy="give --resume to continue the interrupted run, or --force to replace it",
        )


def check_out(out: Path, *, resume: bool, force: bool) -> None:
    """Refuse a folder that can't be written, or may not be replaced.

    Raises:
        InputError: with what was seen.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"output {out} is a file", remedy="name a folder with --out DIR")
    whole, here = out.resolve(), Path.cwd()
    if whole in (here, *here.parents):
        raise InputError(
            f"output folder {out} contains the working folder", remedy="name one of its own with --out DIR"
        )
    Workspace.check(out, resume=resume, force=force)
    existing = next(folder for folder in (whole, *whole.parents) if folder.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file, so {out} cannot be made in it", remedy="choose another --out DIR")
    try:
        # Tried, not asked: a read-only file system says nothing in its permissions.
        tempfile.TemporaryDirectory(prefix=".edgeprune-", dir=existing).cleanup()
    except OSError as error:
        raise InputError(
            f"{existing} cannot be written to: {error.strerror}",
            remedy="choose another --out DIR, or change its permissions",
        ) from error
