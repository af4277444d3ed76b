"""Every option, defined once; a verb's options are a frozen dataclass of them.

The job verbs build on each other: what `profile` takes `plan` takes as well, and what `plan` takes `export` takes.
No option is required here, since a configuration file may give it; `job()` says what is missing in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgeprune.errors import InputError
from edgeprune.job import MODEL_FORMS, Job, default_out
from edgeprune.targets.devices import check_reach
from edgeprune.targets.target import find_target
from edgeprune.units import LatencyBudget, parse_bytes, parse_floats, parse_latencies, parse_shape

# Said here once more, since the table itself needs torch; a test compares the two.
CRITERIA = "taylor, obs, l1, l2, bn_scale, group_taylor, group_l1, group_l2"


def _flag(name: str, says: str) -> Any:
    return typer.Option(name, help=says)


def _value(metavar: str | None, says: str, *, show_default: bool | str = True) -> Any:
    return typer.Option(metavar=metavar, help=says, show_default=show_default)


def _argument(metavar: str, says: str) -> Any:
    return typer.Argument(metavar=metavar, help=says)


_TARGET = _value("T", "Kind of hardware: a name that `edgeprune targets` lists.")
_DEVICE = _value("D", "Where to measure: local or ssh://user@host[:port].")
_DEVICES = _value(
    "D", "Where to measure: local or ssh://user@host[:port]. May be repeated: equal devices share the table."
)


@dataclass(frozen=True)
class Common:
    """What every verb takes."""

    json: Annotated[bool, _flag("--json", "Print one JSON object on stdout.")] = False
    quiet: Annotated[bool, _flag("--quiet", "Show no progress.")] = False
    verbose: Annotated[bool, _flag("--verbose", "Leave nothing out; show the libraries' warnings.")] = False
    debug: Annotated[bool, _flag("--debug", "Show the trace of an error.")] = False
    show_config: Annotated[bool, _flag("--show-config", "Print each value with its origin and stop.")] = False


@dataclass(frozen=True)
class TargetsOptions(Common):
    """What `targets` takes."""

    device: Annotated[str, _DEVICE] = "local"


@dataclass(frozen=True)
class DoctorOptions(Common):
    """What `doctor` takes."""

    target: Annotated[str | None, _TARGET] = None
    device: Annotated[str, _DEVICE] = "local"
    clean: Annotated[bool, _flag("--clean", "Only remove the files that are kept on the device.")] = False


@dataclass(frozen=True)
class VerifyOptions(Common):
    """What `verify` takes."""

    bundle: Annotated[Path | None, _argument("BUNDLE", "Folder that `export` wrote.")] = None
    device: Annotated[str, _DEVICE] = "local"
    verdict: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Take back what verify.py of the bundle wrote.")
    ] = None


@dataclass(frozen=True)
class ProfileOptions(Common):
    """What `profile` takes: a network, a device, and which widths are asked about."""

    model: Annotated[str | None, _argument("MODEL", f"{MODEL_FORMS}.")] = None
    weights: Annotated[Path | None, _value("FILE", ".safetensors, or a .pt/.pth state dict.")] = None
    input: Annotated[str | None, _value("SHAPE", "Of one call, like 1x3x224x224.")] = None
    submodule: Annotated[str | None, _value("NAME", "Make this part alone smaller, such as backbone.")] = None
    seed: Annotated[int, _value("N", "Of everything that is drawn.")] = 0
    target: Annotated[str | None, _TARGET] = None
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "int8"] | None,
        _value(None, "Of the engine.", show_default="the target's own"),
    ] = None
    threads: Annotated[int | None, _value("N", "For the runtime.", show_default="the target's own")] = None
    device: Annotated[list[str], _DEVICES] = field(default_factory=lambda: ["local"])
    lock: Annotated[list[str], _value("PATTERN", "Module names never narrowed. May be repeated.")] = field(
        default_factory=list
    )
    allow_inexact: Annotated[bool, _flag("--allow-inexact", "Also cut what a norm or a softmax spans.")] = False
    align: Annotated[int | None, _value("N", "Widths are multiples of N.", show_default="the target's own")] = None

    def job(self) -> Job:
        """Return the job that these options describe; `checked()` is the caller's.

        Raises:
            InputError: no target or no model, or a text that is no shape or no device.
            MissingError: a device that cannot be one of the target: all else depends on it.
        """
        if self.target is None:
            raise InputError("no target was named", remedy="add --target T; `edgeprune targets` lists them")
        for device in self.device:
            check_reach(find_target(self.target), device)
        if self.model is None:
            raise InputError("no MODEL was named", remedy=f"name {MODEL_FORMS}, here or as model in edgeprune.toml")
        return Job(
            model=self.model,
            target=self.target,
            weights=self.weights,
            input_shape=None if self.input is None else parse_shape(self.input),
            submodule=self.submodule or "",
            precision=self.precision,
            threads=self.threads,
            devices=tuple(self.device),
            seed=self.seed,
            lock=tuple(self.lock),
            allow_inexact=self.allow_inexact,
            align=self.align,
        )


@dataclass(frozen=True)
class PlanOptions(ProfileOptions):
    """What `plan` takes: `profile`'s, a latency, and the data that tell which channels matter."""

    latency: Annotated[str | None, _value("L", "10ms, 800us, or 60% of the dense network's own.")] = None
    data: Annotated[str | None, _value("D", "Folder with train/ and val/, FILE.npz, FILE.py:FUNCTION or demo.")] = None
    mean: Annotated[str | None, _value("M,M,M", "A channel's mean, of pixels in [0, 1].")] = None
    std: Annotated[str | None, _value("S,S,S", "A channel's deviation, of pixels in [0, 1].")] = None
    criterion: Annotated[
        str | None, _value("C", f"What scores the channels: {CRITERIA}; by default obs, without data l2.")
    ] = None
    max_params: Annotated[int | None, _value("N", "Parameters that the network may have, at most.")] = None
    max_size: Annotated[str | None, _value("SIZE", "Of the weights at the precision, at most, like 25MB.")] = None
    strategy: Annotated[
        Literal["latency", "flops", "global", "uniform"],
        _value(None, "How the widths are found; the last three are there to compare with."),
    ] = "latency"

    def job(self) -> Job:
        """Return the job that these options describe, its latency left open: `plan` takes several."""
        return replace(
            super().job(),
            data=self.data,
            mean=None if self.mean is None else parse_floats(self.mean),
            std=None if self.std is None else parse_floats(self.std),
            criterion=self.criterion,
            max_params=self.max_params,
            max_size=None if self.max_size is None else parse_bytes(self.max_size),
            strategy=self.strategy,
        )

    def latency_text(self) -> str:
        """Return what --latency says.

        Raises:
            InputError: it was not given.
        """
        if self.latency is None:
            raise InputError("no latency was given", remedy="add --latency, like --latency 10ms or --latency 60%")
        return self.latency


@dataclass(frozen=True)
class LadderOptions(PlanOptions):
    """What `plan` alone takes: several latencies, and a question about them."""

    explain: Annotated[str | None, _value("MODULE", "Say why this module is as wide as it is.")] = None


@dataclass(frozen=True)
class ExportOptions(PlanOptions):
    """What `export` takes: `plan`'s, and how the run goes."""

    out: Annotated[Path | None, _value("DIR", "The bundle's folder.", show_default="runs/MODEL-TARGET")] = None
    epochs: Annotated[int | None, _value("N", "Of recovery after the cut.", show_default="3 with data, 0 without")] = (
        None
    )
    max_drop: Annotated[float | None, _value("POINTS", "Accuracy that may be lost; more ends with exit 6.")] = None
    rounds: Annotated[int, _value("N", "Networks that are measured to close in on the budget, at most.")] = 6
    dry_run: Annotated[bool, _flag("--dry-run", "Stop after the plan; write nothing.")] = False
    resume: Annotated[bool, _flag("--resume", "Pick up an interrupted run.")] = False
    force: Annotated[bool, _flag("--force", "Replace what is in the bundle's folder.")] = False
    allow_unverified: Annotated[bool, _flag("--allow-unverified", "Exit 0 though nothing could be measured.")] = False

    def job(self) -> Job:
        """Return the job that these options describe."""
        job = super().job()
        return replace(
            job,
            latency=self._one_latency(),
            out=self.out or default_out(job.model, job.target),
            epochs=self.epochs,
            max_drop=self.max_drop,
            rounds=self.rounds,
            dry_run=self.dry_run,
            resume=self.resume,
            force=self.force,
            allow_unverified=self.allow_unverified,
        )

    def _one_latency(self) -> LatencyBudget:
        text = self.latency_text()
        budgets = parse_latencies(text)
        if len(budgets) > 1:
            raise InputError(
                f"export makes one network, and --latency {text} asks for {len(budgets)}",
                remedy=f"give one latency; `edgeprune plan --latency {text}` compares them",
            )
        return budgets[0]
