"""Where every verb begins: the devices opened, the network loaded and traced; nothing is measured yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.subject import Subject, load_subject
from edgeprune.errors import InputError, UnreachableError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.trace import trace
from edgeprune.job import Job
from edgeprune.latency.absent import absent_bench, remember
from edgeprune.latency.bench import Bench, open_bench
from edgeprune.latency.group import BenchGroup
from edgeprune.latency.store import TableStore
from edgeprune.progress import Progress
from edgeprune.pruning.verify import verified
from edgeprune.scoring import scored_by
from edgeprune.training.learner import check_trainable
from edgeprune.trainjob import TrainJob


class Stopwatch:
    """How long each step of a run took, one after the other."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._started = time.perf_counter()

    def done(self, name: str) -> None:
        """Note what was done since the step before."""
        now = time.perf_counter()
        self.rows.append({"name": name, "seconds": round(now - self._started, 3)})
        self._started = now

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long what is inside takes, and nothing of what was before it."""
        self._started = time.perf_counter()
        try:
            yield
        finally:
            self.done(name)


@dataclass(eq=False)
class Traced:
    """A network on its devices, before anything is measured."""

    benches: BenchGroup
    subject: Subject
    blueprint: Blueprint
    criterion: str
    stopwatch: Stopwatch


@contextmanager
def traced(
    job: Job,
    progress: Progress,
    subject: Subject | None = None,
    inspect: Callable[[ChannelGraph], object] | None = None,
    *,
    without_device: bool = False,
) -> Iterator[Traced]:
    """Open the devices, load and trace; nothing is measured. The devices are let go at the end.

    Raises:
        EdgePruneError: bad input, a missing runtime or device.
    """
    stopwatch = Stopwatch()
    with ExitStack() as opened:
        benches = _benches(job, opened, progress, without_device=without_device)
        with progress.step("loading and tracing the network"):
            subject = subject or subject_of(job)
            _check_images(job, benches.first, subject)
            _check_use_of_images(job, subject)
            stopwatch.done("load")
            graph, criterion = scored_by(job, subject, _traced(job, subject))
            graph = verified(subject.model, graph)
            if inspect:
                inspect(graph)
            blueprint = Blueprint(subject.model, graph, TableStore().exports)
            stopwatch.done("trace")
        if subject.data is not None:
            progress.say(f"Data: {subject.data.description}")
        yield Traced(benches, subject, blueprint, criterion, stopwatch)


def _check_images(job: Job, bench: Bench, subject: Subject) -> None:
    """Refuse to ship an int8 engine whose scales would come from nothing; planning for one needs no images.

    Raises:
        InputError: there are no data, or the network takes more than images.
    """
    shipped = job.latency is not None and not job.dry_run
    if shipped and bench.settings.precision == "int8" and subject.data is None:
        raise InputError(
            "an int8 engine is calibrated on training images, and there are none",
            remedy="name them with --data, or use another --precision",
        )


def _check_use_of_images(job: Job, subject: Subject) -> None:
    """Refuse what would do nothing without data, and a network that can't be trained on them.

    Raises:
        InputError: with what was asked for, or with what the network gives while it trains.
    """
    if subject.data is not None:
        if job.latency is not None and not job.dry_run and job.epochs != 0:
            check_trainable(subject.name, subject.model, subject.example_inputs)
        return
    if job.latency is None:
        return
    unused = {
        "--mean": job.mean is not None,
        "--no-mirror": job.no_mirror,
        "--max-drop": job.max_drop is not None,
        "--epochs": bool(job.epochs),
    }
    for name, given in unused.items():
        if given:
            raise InputError(
                f"{name} was given, and there are no images to train on or to judge by",
                remedy="name them with --data, or leave it out",
            )


def _benches(job: Job, opened: ExitStack, progress: Progress, *, without_device: bool) -> BenchGroup:
    """Open the job's devices, before the network is loaded: one that is not there costs no minute.

    Raises:
        MissingError: one is not usable, or can't be reached; the only one, where no earlier table of it is wanted or
            there.
        TableError: they are not all the same.
    """
    try:
        benches = BenchGroup([opened.enter_context(_bench(job, device, progress)) for device in job.devices])
        with progress.step(f"looking at {' and '.join(job.devices)}"):
            benches.check()
    except UnreachableError as error:
        if not without_device or len(job.devices) > 1:
            raise
        earlier = absent_bench(job.target, job.devices[0], job.precision, job.threads, TableStore(), error)
        return BenchGroup([earlier])
    for bench in benches.all:
        remember(TableStore(), bench)
    return benches


def _bench(job: Job, device: str, progress: Progress) -> Bench:
    return open_bench(job.target, device=device, precision=job.precision, threads=job.threads, progress=progress)


def _traced(job: Job, subject: Subject) -> ChannelGraph:
    return trace(subject.model, subject.example_inputs, lock=job.lock, allow_inexact=job.allow_inexact)


def subject_of(job: Job | TrainJob) -> Subject:
    """Load the network and the data that a job names.

    Raises:
        InputError: a name, a file or a shape that does not fit.
        MissingError: a package that the model or the data need.
    """
    return load_subject(
        job.model,
        weights=job.weights,
        input_shape=job.input_shape,
        submodule=job.submodule if isinstance(job, Job) else "",
        data=job.data,
        mean=job.mean,
        std=job.std,
        mirror=not job.no_mirror,
        seed=job.seed,
    )
