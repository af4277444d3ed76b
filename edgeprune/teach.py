"""What `edgeprune train` does: load, train by a method, write the checkpoint.

1. load    the network, its data; draw its weights anew where asked for      artifacts.subject
2. measure what the layers cost, where LAPP goes to a latency                latency.profile
3. train   with a checkpoint after each epoch                                training.loop
4. write   the network, what was cut, and what was learned                   artifacts.checkpoint
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeprune.artifacts import checkpoint as checkpoints
from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.subject import Network, Subject
from edgeprune.artifacts.workspace import Workspace, reserved
from edgeprune.errors import BudgetError, InputError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency.bench import Bench, open_bench
from edgeprune.latency.profile import required
from edgeprune.latency.rule import LONG
from edgeprune.latency.slopes import LatencyCost
from edgeprune.latency.store import TableStore
from edgeprune.latency.trust import trusted_table
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.progress import SILENT, Progress
from edgeprune.shipping import versions
from edgeprune.tracing import subject_of
from edgeprune.training.data import Data
from edgeprune.training.lapp import Lapp, Settings
from edgeprune.training.lapp_network import with_bypasses
from edgeprune.training.learner import check_trainable
from edgeprune.training.loaders import Loaders
from edgeprune.training.loop import Recipe, Trained, evaluate, fit
from edgeprune.training.methods import Method, Plain, Rni, Slimming
from edgeprune.training.processes import count, is_first, wait_for_all
from edgeprune.training.scratch import drawn_anew
from edgeprune.trainjob import TrainJob
from edgeprune.units import LatencyBudget, format_ms

RATE_FROM_SCRATCH = 0.1
RATE_FROM_TRAINED = 0.01
STRENGTH = 1e-4
BATCH_SIZE = 64


def teach(job: TrainJob, progress: Progress = SILENT) -> dict[str, Any]:
    """Train, write the checkpoint, and return `edgeprune.train/1`.

    Under `accelerate launch` every process trains, and the first one writes.

    Raises:
        InputError: no data, a network that the method can't train, or a training that diverged.
        BudgetError: LAPP can't reach the cost.
    """
    with reserved(job.out) if is_first() else nullcontext():
        return _taught(job, progress)


def _taught(job: TrainJob, progress: Progress) -> dict[str, Any]:
    started = time.perf_counter()
    with progress.step("loading the network and its data"):
        subject = subject_of(job)
    model, trained_start = _start(job, subject)
    data = subject.data
    if data is None:
        raise InputError(f"{job.model} comes without data, and --data was not given", remedy="name them with --data")
    if isinstance(data, Loaders) and job.batch_size is not None:
        raise InputError(
            f"--batch-size {job.batch_size} was given, and {data.name} makes batches of its own",
            remedy="leave it out, and set it there",
        )
    check_trainable(subject.name, subject.model, subject.example_inputs)
    recipe = _recipe(job, trained_start)
    checkpoint = Workspace.folder_of(job.out) / "training.ckpt"
    with _workspace(job, subject) as work:
        wait_for_all()  # the first process has made room by now
        method = _method(job, subject, model, trained_start, work, progress)
        progress.say(f"Data: {data.description}")
        progress.say(_announcement(job, recipe, method, data, trained_start))
        before = evaluate(model, data, progress=progress) if trained_start else None
        trained = fit(
            model,
            data,
            recipe,
            method,
            judge=lambda one: {"accuracy": evaluate(one, data)},
            checkpoint=checkpoint,
            progress=progress,
        )
        document = _document(job, subject, trained, recipe, method, before, time.perf_counter() - started)
        if work is not None:
            _write(work.path("checkpoint"), job, subject, data, trained, recipe, method, document)
            work.finish(work.path("checkpoint"))
    return document


def _workspace(job: TrainJob, subject: Subject) -> AbstractContextManager[Workspace | None]:
    """Return the run's folder for the process that writes, and nothing for the others."""
    if not is_first():
        return nullcontext()
    return Workspace(job.out, _identity(job, subject), resume=job.resume, force=job.force)


def _start(job: TrainJob, subject: Subject) -> tuple[Network, bool]:
    """Return the network to start from, and whether its weights are trained ones."""
    if job.method == "lapp" and subject.structure is not None:
        raise InputError(
            f"{job.model} was trained by lapp already", remedy="start from the network that it was made from"
        )
    if job.method == "lapp" and subject.cuts:
        raise InputError(
            f"{job.model} was cut already, and lapp cuts whole networks",
            remedy="start from the network that it was made from, or train it with --method rni",
        )
    start = job.start or ("trained" if subject.trained else "scratch")
    if start == "trained" and subject.trained is False:
        raise InputError(
            f"--start trained was given, and the weights of {job.model} are random", remedy="name some with --weights"
        )
    if start == "trained":
        return subject.model, True
    anew = subject.trained or (subject.trained is None and job.start == "scratch")
    return (drawn_anew(subject.model, job.seed) if anew else subject.model), False


def _recipe(job: TrainJob, trained_start: bool) -> Recipe:
    return Recipe(
        epochs=job.epochs,
        learning_rate=job.learning_rate or (RATE_FROM_TRAINED if trained_start else RATE_FROM_SCRATCH),
        weight_decay=job.weight_decay,
        batch_size=job.batch_size or BATCH_SIZE,
        warmup_epochs=min(1.0, job.epochs / 10),
        seed=job.seed,
    )


def _method(
    job: TrainJob,
    subject: Subject,
    model: Network,
    trained_start: bool,
    work: Workspace | None,
    progress: Progress,
) -> Method:
    strength = STRENGTH if job.strength is None else job.strength
    if job.method == "rni":
        return Rni(strength, job.shift or 0.0, trained_start)
    if job.method == "slimming":
        return Slimming(strength)
    if job.method == "none":
        return Plain()
    bypass = job.bypass or "pointwise"
    if job.macs is not None:
        return Lapp(Settings(job.macs, job.removes or "filters", bypass), subject.example_inputs)
    assert job.latency is not None
    if work is None or count() > 1:
        raise InputError(
            f"{count()} processes can't measure at once", remedy="train to a latency with one process, or use --macs"
        )
    share, cost = _latency_cost(job, subject, model, bypass, job.latency, work, progress)
    return Lapp(Settings(share, "channels", bypass, unit=f"latency on {job.target}"), subject.example_inputs, cost)


def _latency_cost(
    job: TrainJob,
    subject: Subject,
    model: Network,
    bypass: str,
    budget: LatencyBudget,
    work: Workspace,
    progress: Progress,
) -> tuple[float, LatencyCost]:
    """Measure the network with its bypasses; return the share of the dense latency to go to, and the cost of widths.

    The device may be slower or faster now than the table says, so that the cost is on the table's scale alone: there
    the dense network takes the share of the network with bypasses that it takes now, the two measured side by side.

    Raises:
        BudgetError: the dense network is within the budget.
        TableError: the device was too busy.
    """
    assert job.target is not None
    with open_bench(
        job.target, device=job.device, precision=job.precision, threads=job.threads, progress=progress
    ) as bench:
        store = TableStore()
        plain = Blueprint(model, trace(model, subject.example_inputs), store.exports)
        wide = with_bypasses(model, subject.example_inputs, bypass)
        blueprint = Blueprint(wide, trace(wide, subject.example_inputs), store.exports)
        # Once: a run that is resumed must go to the very share that it began with.
        measured = work.once("measured", lambda: _side_by_side({"dense": plain, "wide": blueprint}, bench, progress))
        dense_ms = measured["dense"]
        share = budget.of(dense_ms) / dense_ms
        if share >= 1:
            raise BudgetError(
                f"the dense network takes {format_ms(dense_ms)}, which is within {budget} already",
                remedy="ask for less, or train with --method none",
            )
        progress.say(f"dense {format_ms(dense_ms)}, to {format_ms(budget.of(dense_ms))}")
        table, _ = trusted_table(blueprint, bench, store, seed=job.seed, progress=progress)
    return share, LatencyCost(table, table.dense.engine_ms * dense_ms / measured["wide"])


def _side_by_side(networks: Mapping[str, Blueprint], bench: Bench, progress: Progress) -> dict[str, float]:
    """Return the milliseconds of whole networks, measured in turn.

    Raises:
        TableError: the device was too busy.
    """
    models = {name: one.at(WidthPlan.dense(one.graph)) for name, one in networks.items()}
    with progress.step("measuring the network with and without bypasses"):
        times = required(measured_when_quiet(bench, models, LONG, progress=progress))
    return {name: one.median_ms for name, one in times.items()}


def _announcement(job: TrainJob, recipe: Recipe, method: Method, data: Data, trained_start: bool) -> str:
    how = ", ".join(f"{name} {value}" for name, value in method.settings.items() if name != "method")
    start = "from trained weights" if trained_start else "from scratch"
    return (
        f"Training {start} with {method.name}{f' ({how})' if how else ''}: {recipe.epochs} epochs, "
        f"batches of {_images_per_step(recipe, data)}, rate {recipe.learning_rate:g}; the checkpoint goes to {job.out}."
    )


def _images_per_step(recipe: Recipe, data: Data) -> int:
    return data.batch_size if isinstance(data, Loaders) else recipe.batch_size


def _write(
    folder: Path,
    job: TrainJob,
    subject: Subject,
    data: Data,
    trained: Trained,
    recipe: Recipe,
    method: Method,
    document: Mapping[str, Any],
) -> None:
    structure = method.structure if method.structure is not None else subject.structure
    content = {
        "source": subject.source(),
        "method": dict(method.settings),
        "recipe": asdict(recipe) | {"batch_size": _images_per_step(recipe, data)},
        "result": dict(document),
        "model_digest": subject.digest,
        "data_digest": data.digest,
        "versions": versions(),
    }
    checkpoints.save(folder, trained, subject.cuts.then(method.cuts), structure, content)


def _document(
    job: TrainJob,
    subject: Subject,
    trained: Trained,
    recipe: Recipe,
    method: Method,
    before: float | None,
    seconds: float,
) -> dict[str, Any]:
    """Return `edgeprune.train/1`; `before` is the accuracy that the training started from, where it had weights."""
    last = trained.history[-1]
    dense, now = (trace(one, subject.example_inputs) for one in (subject.model, trained.model))
    return {
        "schema": "edgeprune.train/1",
        "status": "trained",
        "method": method.name,
        "checkpoint": str(job.out),
        "epochs": recipe.epochs,
        "loss": last["loss"],
        "accuracy": {
            "before": before,
            "last": last["accuracy"],
            "best": max(entry["accuracy"] for entry in trained.settled),
        },
        "left": last["left"],
        "macs": {"dense": dense.macs(), "trained": now.macs()},
        "params": {"dense": dense.params(), "trained": now.params()},
        "seconds": round(seconds, 3),
    }


def _identity(job: TrainJob, subject: Subject) -> dict[str, Any]:
    """Return what makes two runs the same: the request and the hashes of what it names."""
    asked = {name: value for name, value in vars(job).items() if name not in ("resume", "force", "out")}
    plain = {name: str(value) if isinstance(value, Path | LatencyBudget) else value for name, value in asked.items()}
    return plain | {
        "model_digest": subject.digest,
        "data_digest": subject.data.digest if subject.data is not None else None,
    }
