"""Job: everything that a person asks for, as one frozen value.

It is checked here as far as that takes neither torch nor a device, so that a slip of the pen costs no minute.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune import usercode
from edgeprune.artifacts.workspace import MADE, Workspace
from edgeprune.errors import InputError, nearest
from edgeprune.targets.devices import check_reach
from edgeprune.targets.target import Target, find_target
from edgeprune.units import LatencyBudget, format_shape

AUTO = "auto"
"""The precision that leaves the choice to the budget."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")

# Said here once more, since the tables themselves need torch; a test compares them.
STRATEGIES = ("latency", "flops", "global", "uniform")
CRITERIA = ("taylor", "obs", "l1", "l2", "bn_scale", "trained", "group_taylor", "group_l1", "group_l2")

MODEL_FORMS = "demo, torchvision:NAME, timm:NAME or FILE.py:FUNCTION"


@dataclass(frozen=True)
class Job:
    """What to make smaller, for which target, and what may be done to reach it.

    Attributes:
        model: `demo`, `torchvision:NAME`, `timm:NAME` or `FILE.py:FUNCTION`.
        target: a name from profiles/.
        latency: the budget; None where none is needed (a profile, or a ladder of plans).
        weights: file with the network's weights, or a folder that export or train wrote; None keeps what it comes with.
        input_shape: of one call, batch 1 included; None takes the model's own.
        submodule: the part of the network that is made smaller; empty for all of it.
        data: `demo`, a folder with train/ and val/, `FILE.npz`, `FILE.py:FUNCTION`; None takes the model's own, if any.
        mean: a number a channel, subtracted from pixels in [0, 1].
        std: a number a channel, by which the difference is divided.
        precision: of the engine; None takes the target's own, `auto` the one that keeps most within the budget.
        threads: that the runtime may use; None takes the target's own.
        devices: where to measure: `local` or `ssh://user@host[:port]`; several share the filling of the table, and the
            first that is left does the rest.
        out: the bundle's folder; None where nothing is written.
        seed: of everything that is drawn.
        epochs: of recovery after the cut; None means 3 with data and 0 without.
        max_drop: the accuracy that may be lost, in percentage points; None sets no floor.
        lock: patterns of module names that are never narrowed.
        allow_inexact: channels that a norm or a softmax spans may be cut too.
        align: widths are multiples of this; None takes the target's own.
        rounds: measurements that the closed loop takes at most, and tries of an engine that was measured over.
        criterion: what scores the channels; None takes the best that the data allow.
        strategy: how the widths are found: `latency`, or `flops`, `global`, `uniform` to compare with.
        max_params: the most parameters that the network may have; None sets no limit.
        max_size: the most bytes that its weights may take at the engine's precision; None sets no limit.
        dry_run: stop after the plan.
        resume: pick up an interrupted run in `out`.
        force: replace what is in `out`.
        allow_unverified: a result that could not be measured is a success.
    """

    model: str
    target: str
    latency: LatencyBudget | None = None
    weights: Path | None = None
    input_shape: tuple[int, ...] | None = None
    submodule: str = ""
    data: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    precision: str | None = None
    threads: int | None = None
    devices: tuple[str, ...] = ("local",)
    out: Path | None = None
    seed: int = 0
    epochs: int | None = None
    max_drop: float | None = None
    lock: tuple[str, ...] = ()
    allow_inexact: bool = False
    align: int | None = None
    rounds: int = 6
    criterion: str | None = None
    strategy: str = "latency"
    max_params: int | None = None
    max_size: int | None = None
    dry_run: bool = False
    resume: bool = False
    force: bool = False
    allow_unverified: bool = False

    def checked(self, *, by_name: bool = True) -> Job:
        """Return this job once everything about it has been checked that needs neither torch nor the device.

        Args:
            by_name: the model is found by its name, and was not handed over as a Python object.

        Raises:
            InputError: a name, a number or a path that cannot be right; nothing has been written then.
            MissingError: a device that cannot be one of the target.
        """
        target = find_target(self.target)
        if self.precision == AUTO:
            if self.latency is None:
                raise InputError(
                    "--precision auto chooses the precision within a latency",
                    remedy="use it with edgeprune export, or name a precision",
                )
        else:
            check_precision(self.precision, target)
        check_known("criterion", self.criterion, CRITERIA)
        check_known("strategy", self.strategy, STRATEGIES)
        if by_name:
            check_model(self.model)
        check_files(self.weights, self.data)
        check_input(self.input_shape, self.mean, self.std)
        check_least(self, {"threads": 1, "epochs": 0, "align": 1, "rounds": 1, "max-drop": 0, "seed": 0})
        check_least(self, {"max-params": 1, "max-size": 1})
        _check_devices(target, self.devices)
        if self.resume and self.force:
            raise InputError(
                "--resume and --force were both given",
                remedy="give --resume to continue the interrupted run, or --force to replace it",
            )
        if self.out is not None and not self.dry_run:
            check_out(self.out, resume=self.resume, force=self.force)
        return self


def default_out(model: str, target: str) -> Path:
    """Return the folder a bundle goes to when none is named: `runs/MODEL-TARGET` under the working folder."""
    name = model.rpartition(":")[2]
    return Path("runs") / f"{Path(name).name}-{target}"


def _check_devices(target: Target, devices: Sequence[str]) -> None:
    for device in devices:
        check_reach(target, device)
        if devices.count(device) > 1:
            raise InputError(f"device {device} was named twice", remedy="name every device once")


def check_known(option: str, name: str | None, known: Sequence[str]) -> None:
    """Refuse a name that is none of those known; None is left to a default.

    Raises:
        InputError: with the nearest one that is known.
    """
    if name is not None and name not in known:
        raise InputError(
            f"--{option} {name!r} is nothing that is known{nearest(name, known)}", remedy=f"use {', '.join(known)}"
        )


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
        raise InputError(f"model {model!r} is nothing that is known{hint}", remedy=f"name {MODEL_FORMS}")


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
    path = Path(text if text.endswith(".py") else text.rpartition(":")[0])
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
        raise InputError(f"--mean has {len(mean)} values and --std has {len(std)}", remedy="give one a channel to each")
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
