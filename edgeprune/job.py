"""Job: everything that a person asks for, as one frozen value.

It is checked here as far as that takes neither torch nor a device, so that a slip of the pen costs no minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.checks import (
    check_devices,
    check_files,
    check_input,
    check_known,
    check_least,
    check_model,
    check_out,
    check_precision,
    check_resume,
)
from edgeprune.errors import InputError
from edgeprune.targets.target import find_target
from edgeprune.units import LatencyBudget

AUTO = "auto"
"""The precision that leaves the choice to the budget."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")

# Said here once more, since the tables themselves need torch; a test compares them.
STRATEGIES = ("latency", "flops", "global", "uniform")
CRITERIA = ("taylor", "obs", "l1", "l2", "bn_scale", "trained", "group_taylor", "group_l1", "group_l2")


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
        no_mirror: training images are never mirrored.
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
    no_mirror: bool = False
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
                    "--precision auto is chosen by edgeprune export alone, within its latency",
                    remedy=f"name one: {', '.join(target.precisions)}",
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
        check_devices(target, self.devices)
        check_resume(resume=self.resume, force=self.force)
        if self.out is not None and not self.dry_run:
            check_out(self.out, resume=self.resume, force=self.force)
        return self


def default_out(model: str, how: str) -> Path:
    """Return the folder that is written when none is named, under the working folder: `runs/MODEL-HOW`.

    Args:
        model: as it was named.
        how: the target of an export, the method of a training.
    """
    return Path("runs") / f"{Path(model.rpartition(':')[2]).name}-{how}"
