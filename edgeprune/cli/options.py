"""Every option, defined once; a verb's options are a frozen dataclass of them.

The job verbs build on each other: what tells of a network `profile` and `plan` take, and what `plan` takes `export`
takes.
No option is required here, since a configuration file may give it; `job()` says what is missing in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgeprune import trainjob
from edgeprune.cli.completion import Offer, bundles, models, one_of, target_names
from edgeprune.errors import InputError
from edgeprune.job import MODEL_FORMS, Job, default_out
from edgeprune.targets.devices import check_reach
from edgeprune.targets.target import find_target
from edgeprune.trainjob import TrainJob
from edgeprune.units import (
    LatencyBudget,
    parse_bytes,
    parse_floats,
    parse_latencies,
    parse_latency,
    parse_shape,
    parse_share,
)

# Said here once more, since the table itself needs torch; a test compares the two.
CRITERIA = "taylor, obs, l1, l2, bn_scale, trained, group_taylor, group_l1, group_l2"


def _flag(name: str, says: str) -> Any:
    return typer.Option(name, help=says)


def _value(metavar: str | None, says: str, *, show_default: bool | str = True, completed: Offer | None = None) -> Any:
    return typer.Option(metavar=metavar, help=says, show_default=show_default, autocompletion=completed)


def _argument(metavar: str, says: str, completed: Offer = bundles) -> Any:
    return typer.Argument(metavar=metavar, help=says, autocompletion=completed)


_TARGET = _value("T", "Kind of hardware: a name that `edgeprune targets` lists.", completed=target_names)
_DEVICE = _value("D", "Where to measure: local or ssh://user@host[:port].")
_DEVICES = _value(
    "D", "Where to measure: local or ssh://user@host[:port]. May be repeated: equal devices share the table."
)

_MODEL = _argument("MODEL", f"{MODEL_FORMS}, or a folder that export or train wrote.", models)
_WEIGHTS = _value("FILE", ".safetensors, or a .pt/.pth state dict; or a folder that export or train wrote.")
_INPUT = _value("SHAPE", "Of one call, like 1x3x224x224.")
_SEED = _value("N", "Of everything that is drawn.")
_PRECISION = _value(None, "Of the engine.", show_default="the target's own")
_PRECISION_OR_AUTO = _value(
    None, "Of the engine; export's auto keeps most of the network.", show_default="the target's own"
)
_THREADS = _value("N", "For the runtime.", show_default="the target's own")
_DATA = _value("D", "Folder with train/ and val/, FILE.npz, FILE.py:FUNCTION or demo.")
_MEAN = _value("M,M,M", "A channel's mean, of pixels in [0, 1].")
_STD = _value("S,S,S", "A channel's deviation, of pixels in [0, 1].")
_RESUME = _flag("--resume", "Pick up an interrupted run.")
_Precision = Literal["fp32", "bf16", "fp16", "int8"]
_PrecisionOrAuto = Literal["fp32", "bf16", "fp16", "int8", "auto"]


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
class ReportOptions(Common):
    """What `report` takes."""

    bundles: Annotated[list[Path] | None, _argument("BUNDLE...", "Folders that `export` wrote.")] = None
    compare: Annotated[bool, _flag("--compare", "Show several bundles side by side.")] = False
    out: Annotated[Path | None, _value("FILE", "The page.", show_default="BUNDLE/report.html, or comparison.html")] = (
        None
    )
    force: Annotated[bool, _flag("--force", "Replace FILE.")] = False


@dataclass(frozen=True)
class DiffOptions(Common):
    """What `diff` takes."""

    one: Annotated[Path | None, _argument("A", "Folder that `export` wrote.")] = None
    other: Annotated[Path | None, _argument("B", "Another one.")] = None


@dataclass(frozen=True)
class ReplayOptions(Common):
    """What `replay` takes."""

    bundle: Annotated[Path | None, _argument("BUNDLE", "Folder that `export` wrote.")] = None
    out: Annotated[Path | None, _value("DIR", "Keep the new bundle there.", show_default="it is not kept")] = None


@dataclass(frozen=True)
class NetworkOptions(Common):
    """A network, a device, and which widths are asked about."""

    model: Annotated[str | None, _MODEL] = None
    weights: Annotated[Path | None, _WEIGHTS] = None
    input: Annotated[str | None, _INPUT] = None
    submodule: Annotated[str | None, _value("NAME", "Make this part alone smaller, such as backbone.")] = None
    seed: Annotated[int, _SEED] = 0
    target: Annotated[str | None, _TARGET] = None
    precision: Annotated[_PrecisionOrAuto | None, _PRECISION_OR_AUTO] = None
    threads: Annotated[int | None, _THREADS] = None
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
class ProfileOptions(NetworkOptions):
    """What `profile` takes: a network on a device, or what to do with the tables that are there."""

    check: Annotated[bool, _flag("--check", "Only say whether the stored table can be trusted; at most 30 s.")] = False
    export_to: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Only write the stored tables into DIR.")
    ] = None
    import_from: Annotated[
        Path | None, typer.Option("--import", metavar="DIR", help="Only take in the tables of DIR.")
    ] = None


@dataclass(frozen=True)
class PlanOptions(NetworkOptions):
    """What `plan` takes: a network on a device, a latency, and the data that tell which channels matter."""

    latency: Annotated[str | None, _value("L", "10ms, 800us, or 60% of the dense network's own.")] = None
    data: Annotated[str | None, _DATA] = None
    mean: Annotated[str | None, _MEAN] = None
    std: Annotated[str | None, _STD] = None
    criterion: Annotated[
        str | None,
        _value(
            "C",
            f"What scores the channels: {CRITERIA}; by default what training gave, else obs, without data l2.",
            completed=one_of(CRITERIA.split(", ")),
        ),
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
    resume: Annotated[bool, _RESUME] = False
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


@dataclass(frozen=True)
class TrainOptions(Common):
    """What `train` takes."""

    model: Annotated[str | None, _MODEL] = None
    method: Annotated[
        str | None, _value("M", f"{', '.join(trainjob.METHODS)}.", completed=one_of(trainjob.METHODS))
    ] = None
    data: Annotated[str | None, _DATA] = None
    epochs: Annotated[int, _value("N", "Passes over the training images.")] = 30
    out: Annotated[Path | None, _value("DIR", "The checkpoint's folder.", show_default="runs/MODEL-METHOD")] = None
    weights: Annotated[Path | None, _WEIGHTS] = None
    start: Annotated[
        str | None, _value("S", "scratch draws all weights anew; or trained.", show_default="as MODEL comes")
    ] = None
    input: Annotated[str | None, _INPUT] = None
    mean: Annotated[str | None, _MEAN] = None
    std: Annotated[str | None, _STD] = None
    batch_size: Annotated[int, _value("N", "Images a step, of all processes together.")] = 64
    learning_rate: Annotated[
        float | None, _value("R", "The largest.", show_default="0.1 from scratch, 0.01 from trained weights")
    ] = None
    weight_decay: Annotated[float, _value("W", "On all weights but biases and scales.")] = 1e-4
    strength: Annotated[float | None, _value("X", "Of the penalty (rni, slimming).", show_default="1e-4")] = None
    shift: Annotated[float | None, _value("B", "Where the penalty presses (rni).", show_default="0")] = None
    macs: Annotated[str | None, _value("SHARE", "MACs that are left (lapp), like 40%.")] = None
    latency: Annotated[str | None, _value("L", "In place of --macs: 5ms, or 60% of the dense network's own.")] = None
    removes: Annotated[
        str | None,
        _value("R", "filters or channels (lapp).", show_default="filters", completed=one_of(trainjob.REMOVES)),
    ] = None
    bypass: Annotated[
        str | None,
        _value(
            "B",
            f"{', '.join(trainjob.BYPASSES)} (lapp).",
            show_default="pointwise",
            completed=one_of(trainjob.BYPASSES),
        ),
    ] = None
    target: Annotated[str | None, _TARGET] = None
    precision: Annotated[_Precision | None, _PRECISION] = None
    threads: Annotated[int | None, _THREADS] = None
    device: Annotated[str, _DEVICE] = "local"
    seed: Annotated[int, _SEED] = 0
    resume: Annotated[bool, _RESUME] = False
    force: Annotated[bool, _flag("--force", "Replace what is in the checkpoint's folder.")] = False

    def job(self) -> TrainJob:
        """Return the job that these options describe; `checked()` is the caller's.

        Raises:
            InputError: no model or no method, or a text that is no number.
        """
        if self.model is None:
            raise InputError("no MODEL was named", remedy=f"name {MODEL_FORMS}, here or as model in edgeprune.toml")
        if self.method is None:
            raise InputError("no method was named", remedy=f"add --method {' or '.join(trainjob.METHODS)}")
        return TrainJob(
            model=self.model,
            method=self.method,
            out=self.out or trainjob.default_out(self.model, self.method),
            data=self.data,
            weights=self.weights,
            input_shape=None if self.input is None else parse_shape(self.input),
            mean=None if self.mean is None else parse_floats(self.mean),
            std=None if self.std is None else parse_floats(self.std),
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
