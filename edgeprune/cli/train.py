"""`edgeprune train`."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from edgeprune.artifacts.workspace import Workspace
from edgeprune.checks import MODEL_FORMS
from edgeprune.cli.completion import target_names
from edgeprune.cli.options import (
    DATA,
    INPUT,
    MEAN,
    MODEL,
    NO_MIRROR,
    RESUME,
    SEED,
    STD,
    WEIGHTS,
    Common,
    autos,
    brought,
    choice,
    flag,
    value,
    without,
    yielding,
)
from edgeprune.cli.output import finish, is_spoken_for, running
from edgeprune.errors import InputError
from edgeprune.job import PRECISIONS, default_out
from edgeprune.trainjob import BYPASSES, FOR_LATENCY, METHODS, ONLY_FOR, REMOVES, STARTS, TrainJob
from edgeprune.units import parse_floats, parse_latency, parse_shape, parse_share


@dataclass(frozen=True)
class TrainOptions(Common):
    """What `train` takes."""

    model: Annotated[str | None, MODEL] = None
    method: Annotated[str | None, choice(METHODS, "What it learns by.")] = None
    data: Annotated[str | None, DATA] = None
    epochs: Annotated[int, value("N", "Passes over the training images.")] = 30
    out: Annotated[Path | None, value("DIR", "The checkpoint's folder.", show_default="runs/MODEL-METHOD")] = None
    weights: Annotated[Path | None, WEIGHTS] = None
    start: Annotated[str | None, choice(STARTS, "scratch draws all weights anew.", show_default="as MODEL comes")] = (
        None
    )
    input: Annotated[str | None, INPUT] = None
    mean: Annotated[str | None, MEAN] = None
    std: Annotated[str | None, STD] = None
    no_mirror: Annotated[bool, NO_MIRROR] = False
    batch_size: Annotated[
        int | None,
        value("N", "Images per step, of all processes together.", show_default="64, or as loaders make them"),
    ] = None
    learning_rate: Annotated[
        float | None, value("R", "Peak learning rate.", show_default="0.1 from scratch, 0.01 from trained weights")
    ] = None
    weight_decay: Annotated[float, value("W", "On all weights but biases and scales.")] = 1e-4
    strength: Annotated[float | None, value("X", "Weight of the penalty (rni, slimming).", show_default="1e-4")] = None
    shift: Annotated[float | None, value("B", "Where the penalty presses (rni).", show_default="0")] = None
    macs: Annotated[str | None, value("SHARE", "MACs that are left (lapp), like 40%.")] = None
    latency: Annotated[str | None, value("L", "In place of --macs (lapp): 5ms, or 60% of the dense network's own.")] = (
        None
    )
    removes: Annotated[str | None, choice(REMOVES, "What goes (lapp).", show_default="filters")] = None
    bypass: Annotated[
        str | None,
        choice(BYPASSES, "Beside each convolution (lapp); none reaches 1x1 layers too.", show_default="pointwise"),
    ] = None
    target: Annotated[
        str | None,
        value("T", "For --latency, a name that `edgeprune targets` lists.", completed=target_names),
    ] = None
    precision: Annotated[
        str | None, choice(PRECISIONS, "Precision of the engine, for --latency.", show_default="the target's own")
    ] = None
    threads: Annotated[int | None, value("N", "For the runtime, for --latency.", show_default="the target's own")] = (
        None
    )
    device: Annotated[str, value("D", "Where to measure, for --latency: local or ssh://user@host[:port].")] = "local"
    seed: Annotated[int, SEED] = 0
    resume: Annotated[bool, RESUME] = False
    force: Annotated[bool, flag("--force", "Replace what is in the checkpoint's folder.")] = False

    def job(self) -> TrainJob:
        """Return the job that these options describe; `checked()` is the caller's.

        Raises:
            InputError: no model or no method, or a text that is no number.
        """
        if self.model is None:
            raise InputError("no MODEL was named", remedy=f"name {MODEL_FORMS}, here or as model in edgeprune.toml")
        if self.method is None:
            raise InputError("no method was named", remedy=f"add --method {' or '.join(METHODS)}")
        return TrainJob(
            model=self.model,
            method=self.method,
            out=self._folder(),
            data=self.data,
            weights=self.weights,
            input_shape=None if self.input is None else parse_shape(self.input),
            mean=None if self.mean is None else parse_floats(self.mean),
            std=None if self.std is None else parse_floats(self.std),
            no_mirror=self.no_mirror,
            start=self.start,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            strength=self.strength,
            shift=self.shift,
            macs=None if self.macs is None else parse_share(self.macs),
            latency=None if self.latency is None else parse_latency(self.latency),
            target=self.target,
            precision=self.precision,
            threads=self.threads,
            device=self.device,
            removes=self.removes,
            bypass=self.bypass,
            seed=self.seed,
            resume=self.resume,
            force=self.force,
        )

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without those of a file that the method, or a cost that was typed, has no use for."""
        left = {name for name, methods in ONLY_FOR.items() if self.method not in methods} & from_file
        left |= yielding(self, from_file, "macs", "latency") | yielding(self, from_file, "resume", "force")
        left |= autos(self, from_file) | brought(self, from_file)
        found = without(self, left)
        return found if found.latency is not None else without(found, from_file & set(FOR_LATENCY))

    def resumable(self) -> bool:
        """Whether --resume goes on: without --force a checkpoint is in its way until a run has begun."""
        return not self.force or Workspace.is_started(self._folder())

    def _folder(self) -> Path:
        return self.out or default_out(self.model or "", self.method or "")


def train(options: TrainOptions) -> int:
    """Train MODEL so that it can be pruned, from scratch or from weights.

    rni and slimming learn which channels matter, and `edgeprune export CHECKPOINT` uses that; lapp prunes while it
    trains. Under `accelerate launch -m edgeprune train ...` several processes share every batch; on a processor
    torchrun starts them.
    """
    job = options.job().checked()
    with running(options) as progress:
        from edgeprune import pipeline

        result = pipeline.train(job, progress)
    return result.exit_code if is_spoken_for() else finish(options, result)
