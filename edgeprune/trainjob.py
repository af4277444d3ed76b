"""TrainJob: what a person asks of `edgeprune train`, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeprune.checks import (
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
from edgeprune.targets.address import Address
from edgeprune.targets.devices import check_reach
from edgeprune.targets.target import find_target
from edgeprune.units import LatencyBudget

METHODS = ("rni", "lapp", "slimming", "none")
STARTS = ("scratch", "trained")
REMOVES = ("filters", "channels")
BYPASSES = ("pointwise", "depthwise", "none")

ONLY_FOR = {
    "strength": ("rni", "slimming"),
    "shift": ("rni",),
    "macs": ("lapp",),
    "latency": ("lapp",),
    "removes": ("lapp",),
    "bypass": ("lapp",),
}
"""Field -> the methods that have a use for it."""

FOR_LATENCY = ("target", "precision", "threads", "device")
"""Fields that say where a latency counts: without one nothing is measured."""


@dataclass(frozen=True)
class TrainJob:
    """What to train, how, and where the checkpoint goes. What is None takes a default that `method` or `start` decides.

    Attributes:
        model: as in `Job`.
        method: `rni`, `lapp`, `slimming` or `none`.
        data: training and validation images; None takes the model's own, if any.
        weights: file or folder with the network's weights.
        input_shape: of one call, batch 1 included.
        mean: a number a channel, subtracted from pixels in [0, 1].
        std: a number a channel, by which the difference is divided.
        no_mirror: training images are never mirrored.
        start: `scratch` draws all weights anew, `trained` goes on from what the network has; None: whatever it has.
        epochs: passes over the training images.
        batch_size: images a step, of all processes together; None means 64, or what loaders of one's own make.
        learning_rate: the largest; None means 0.1 from scratch and 0.01 from trained weights.
        weight_decay: on weights of two and more dimensions.
        strength: weight of the penalty of rni or slimming; None means 1e-4.
        shift: where rni's penalty presses; None means 0.
        macs: share of the dense network's multiply-accumulates that lapp leaves.
        latency: what lapp leaves, in place of `macs`; needs `target`.
        target: kind of hardware, for `latency`.
        precision: of the engine, for `latency`.
        threads: that the runtime may use, for `latency`.
        device: where to measure, for `latency`.
        removes: `filters` or `channels`, lapp's two readings; None means filters, or with a latency channels.
        bypass: what lapp puts beside each convolution; None means pointwise.
        out: the checkpoint's folder.
        seed: of everything that is drawn.
        resume: pick up an interrupted run in `out`.
        force: replace what is in `out`.
    """

    model: str
    method: str
    out: Path
    data: str | None = None
    weights: Path | None = None
    input_shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    no_mirror: bool = False
    start: str | None = None
    epochs: int = 30
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-4
    strength: float | None = None
    shift: float | None = None
    macs: float | None = None
    latency: LatencyBudget | None = None
    target: str | None = None
    precision: str | None = None
    threads: int | None = None
    device: str = "local"
    removes: str | None = None
    bypass: str | None = None
    seed: int = 0
    resume: bool = False
    force: bool = False

    def checked(self) -> TrainJob:
        """Return this job once everything about it has been checked that takes neither torch nor a device.

        Raises:
            InputError: a name, a number or a path that cannot be right; nothing has been written then.
        """
        for name, known in (("method", METHODS), ("start", STARTS), ("removes", REMOVES), ("bypass", BYPASSES)):
            check_known(name, getattr(self, name), known)
        check_model(self.model)
        check_files(self.weights, self.data)
        check_input(self.input_shape, self.mean, self.std)
        check_least(self, {"epochs": 1, "batch-size": 1, "seed": 0, "threads": 1, "weight-decay": 0, "strength": 0})
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise InputError(f"--learning-rate {self.learning_rate} is not above 0", remedy="give one like 0.1")
        for name, methods in ONLY_FOR.items():
            if getattr(self, name) is not None and self.method not in methods:
                raise InputError(
                    f"--{name} was given, which does not apply to {self.method}",
                    remedy=f"leave it out, or use --method {' or '.join(methods)}",
                )
        for name in FOR_LATENCY:
            if self.latency is None and getattr(self, name) not in (None, "local"):
                raise InputError(
                    f"--{name} was given, and nothing is measured without --latency",
                    remedy="leave it out, or use --method lapp --latency 5ms --target T",
                )
        if self.method == "lapp":
            self._check_target()
        Address.parse(self.device)
        check_resume(resume=self.resume, force=self.force)
        check_out(self.out, resume=self.resume, force=self.force)
        return self

    def _check_target(self) -> None:
        """Refuse a cost that lapp could not go to."""
        if (self.macs is None) == (self.latency is None):
            raise InputError("lapp needs a target cost", remedy="give either --macs 40% or --latency 5ms --target T")
        if self.macs is not None and not 0 < self.macs < 1:
            raise InputError(f"--macs {self.macs:.0%} leaves nothing to prune", remedy="give a share like 40%")
        if self.latency is None:
            return
        if self.target is None:
            raise InputError("--latency was given without --target", remedy="`edgeprune targets` lists them")
        target = find_target(self.target)
        check_reach(target, self.device)
        check_precision(self.precision, target)
        if self.removes == "filters":
            raise InputError(
                "a latency is known by channels, and --removes filters was given", remedy="leave --removes out"
            )
