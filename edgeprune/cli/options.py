"""What options are made of, and those that several verbs have; a verb's own stand in its file.

A verb's options are a frozen dataclass. Those of the job verbs build on each other: what tells of a network `profile`
and `plan` take, and what `plan` takes `export` takes. No option is required here, since a configuration file may give
it; `job()` says what is missing in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import typer

from edgeprune.checks import MODEL_FORMS, check_devices
from edgeprune.cli.completion import Offer, bundles, models, one_of, target_names
from edgeprune.errors import InputError
from edgeprune.job import AUTO, CRITERIA, PRECISIONS, STRATEGIES, Job
from edgeprune.progress import Progress
from edgeprune.targets.target import find_target
from edgeprune.units import parse_bytes, parse_floats, parse_shape


def flag(name: str, says: str) -> Any:
    return typer.Option(name, help=says)


def value(metavar: str | None, says: str, *, show_default: bool | str = True, completed: Offer | None = None) -> Any:
    return typer.Option(metavar=metavar, help=says, show_default=show_default, autocompletion=completed)


def choice(names: Sequence[str], says: str, *, show_default: bool | str = True) -> Any:
    """Return an option that takes one of `names`; the job says which is nearest to another."""
    return value("|".join(names), says, show_default=show_default, completed=one_of(names))


def argument(metavar: str, says: str, completed: Offer = bundles) -> Any:
    return typer.Argument(metavar=metavar, help=says, autocompletion=completed)


TARGET = value("T", "Kind of hardware: a name that `edgeprune targets` lists.", completed=target_names)
DEVICE = value("D", "Where to measure: local or ssh://[user@]host[:port][/path/to/python].")
DEVICES = value(
    "D",
    "Where to measure: local or ssh://[user@]host[:port][/path/to/python]. May be repeated: equal devices share the"
    " table.",
)

MODEL = argument("MODEL", f"{MODEL_FORMS}, or a folder that export or train wrote.", models)
WEIGHTS = value("FILE", ".safetensors, or a .pt/.pth state dict; or a folder that export or train wrote.")
INPUT = value("SHAPE", "Input shape, batch 1 included, like 1x3x224x224.")
SEED = value("N", "Random seed.")
PRECISION = choice(PRECISIONS, "Precision of the engine.", show_default="the target's own")
PRECISION_OR_AUTO = choice(
    (*PRECISIONS, AUTO),
    "Precision of the engine; auto tries each, and takes the best within the budget.",
    show_default="the target's own",
)
THREADS = value("N", "Threads that the runtime may use.", show_default="the target's own")
DATA = value("D", "Folder with train/ and val/, FILE.npz, FILE.py:FUNCTION or demo.")
MEAN = value("M,M,M", "Mean per channel, of pixels scaled to [0, 1].")
STD = value("S,S,S", "Standard deviation per channel, of pixels scaled to [0, 1].")
NO_MIRROR = flag("--no-mirror", "Never mirror training images: for text, signs, left and right.")
RESUME = flag("--resume", "Pick up an interrupted run.")


@dataclass(frozen=True)
class Common:
    """What every verb takes."""

    json: Annotated[bool, flag("--json", "Print one JSON object on stdout.")] = False
    quiet: Annotated[bool, flag("--quiet", "Show no progress.")] = False
    verbose: Annotated[bool, flag("--verbose", "Leave nothing out; show the libraries' warnings.")] = False
    debug: Annotated[bool, flag("--debug", "Show the trace of an error.")] = False
    show_config: Annotated[bool, flag("--show-config", "Print each value with its origin and stop.")] = False

    def used(self, from_file: Set[str]) -> Self:
        """Return these options without what a configuration file gives and the verb, so called, has no use for.

        Args:
            from_file: the fields whose value is the file's.
        """
        return self

    def resumable(self) -> bool:
        """Whether --resume in place of --force goes on with a run that was interrupted."""
        return True


Options = TypeVar("Options", bound=Common)


def default_of(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def without(options: Options, names: Iterable[str]) -> Options:
    """Return options with those fields as if nobody had given them."""
    return replace(options, **{item.name: default_of(item) for item in fields(options) if item.name in set(names)})


def autos(options: Common, from_file: Set[str]) -> set[str]:
    """Return the file's `precision` where it is `auto`, which only export can choose."""
    return {"precision"} & from_file if getattr(options, "precision", None) == AUTO else set()


def brought(options: Common, from_file: Set[str]) -> set[str]:
    """Return of the file what MODEL brings itself: weights, and of the demo that was typed all else of a network."""
    model = getattr(options, "model", None)
    if model == "demo" and "model" not in from_file:
        return {"weights", "data", "mean", "std", "no_mirror", "input", "submodule"} & from_file
    return {"weights"} & from_file if model and (model == "demo" or Path(model).is_dir()) else set()


def yielding(options: Common, from_file: Set[str], one: str, other: str) -> set[str]:
    """Return which of two fields that exclude each other gives way: the file's, where the other one was typed."""
    found = {one, other} & from_file
    return found if getattr(options, one) and getattr(options, other) and len(found) == 1 else set()


@dataclass(frozen=True)
class NetworkOptions(Common):
    """A network, a device, and which widths are asked about."""

    model: Annotated[str | None, MODEL] = None
    weights: Annotated[Path | None, WEIGHTS] = None
    input: Annotated[str | None, INPUT] = None
    submodule: Annotated[str | None, value("NAME", "Make this part alone smaller, such as backbone.")] = None
    seed: Annotated[int, SEED] = 0
    target: Annotated[str | None, TARGET] = None
    precision: Annotated[str | None, PRECISION] = None
    threads: Annotated[int | None, THREADS] = None
    device: Annotated[list[str], DEVICES] = field(default_factory=lambda: ["local"])
    lock: Annotated[
        list[str], value("PATTERN", "Never narrow modules whose name matches, such as 'layer1.*'. May be repeated.")
    ] = field(default_factory=list)
    allow_inexact: Annotated[
        bool, flag("--allow-inexact", "Also cut channels that are normalised together (LayerNorm, softmax).")
    ] = False
    align: Annotated[int | None, value("N", "Widths are multiples of N.", show_default="the target's own")] = None

    def job(self) -> Job:
        """Return the job that these options describe; `checked()` is the caller's.

        Raises:
            InputError: no target or no model, or a text that is no shape or no device.
            MissingError: a device that cannot be one of the target: all else depends on it.
        """
        if self.target is None and self.model is None:
            raise InputError(
                "no MODEL and no target were named",
                remedy=f"name {MODEL_FORMS}, and add --target T; `edgeprune targets` lists them",
            )
        if self.target is None:
            raise InputError("no target was named", remedy="add --target T; `edgeprune targets` lists them")
        check_devices(find_target(self.target), self.device)
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
class PlanOptions(NetworkOptions):
    """What `plan` takes: a network on a device, a latency, and the data that tell which channels matter."""

    latency: Annotated[str | None, value("L", "10ms, 800us, or 60% of the dense network's own.")] = None
    data: Annotated[str | None, DATA] = None
    mean: Annotated[str | None, MEAN] = None
    std: Annotated[str | None, STD] = None
    criterion: Annotated[
        str | None,
        value(
            "C",
            f"Scores the channels: {', '.join(CRITERIA)}; by default what training gave, else obs, without data l2.",
            completed=one_of(CRITERIA),
        ),
    ] = None
    max_params: Annotated[int | None, value("N", "Parameters that the network may have, at most.")] = None
    max_size: Annotated[
        str | None, value("SIZE", "Most that the weights may take at the engine's precision, like 25MB.")
    ] = None
    strategy: Annotated[
        str, choice(STRATEGIES, "How the widths are found; the last three are there to compare with.")
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


def announce(job: Job, progress: Progress) -> None:
    """Say what the numbers of a job mean, before anything is loaded."""
    from edgeprune.report.outcome import latency_means  # rich takes a while to import

    progress.say(latency_means(copies=find_target(job.target).copies))
    if job.weights is None and job.model.startswith(("torchvision:", "timm:")):
        progress.say(
            f"Warning: the weights of {job.model} are random. The latency is true; the accuracy and the choice of"
            " channels are not: pass --weights FILE."
        )
