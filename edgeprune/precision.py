"""`--precision auto`: the pair of precision and widths that keeps most of the network within the budget.

Every precision that the device and the data allow is tried: its table, the widths that `--strategy` finds within the
budget, and with data the cut network's engine, refitted but not trained, over training images. The highest accuracy
wins; those within half a point of it are equal, and of them the one that keeps most value wins, then the most exact.
Without data the widths alone decide, by the same rule, and int8 is left out: it has nothing to be calibrated on. The
judge sees training images, so that the accuracy that is reported in the end is of images by which nothing was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeprune.artifacts.onnx import export_onnx
from edgeprune.artifacts.subject import Subject
from edgeprune.budget.strategies import search
from edgeprune.errors import BudgetError, InputError, MissingError
from edgeprune.graph.plan import WidthPlan
from edgeprune.job import Job
from edgeprune.latency.bench import open_bench
from edgeprune.prepare import CALIBRATION_IMAGES, Prepared, prepare
from edgeprune.progress import Progress
from edgeprune.pruning.compensate import compensate
from edgeprune.pruning.fuse import fuse
from edgeprune.pruning.slim import slim
from edgeprune.shipping import QUANTIZATION_IMAGES
from edgeprune.targets.target import find_target
from edgeprune.training.images import Batch
from edgeprune.units import LatencyBudget, format_ms, format_percent, parse_latency
from edgeprune.verification.accuracy import engine_accuracy

EXACTNESS = ("fp32", "fp16", "bf16", "int8")
"""Most exact first."""

JUDGE_IMAGES = 1000

EQUAL = 0.005
"""Accuracies that differ by less than this are equal: half a point."""


@dataclass(frozen=True)
class Trial:
    """What one precision came to.

    Attributes:
        precision: its name.
        dense_ms: latency of the dense network in it.
        kept: value of the widths that were found within the budget; 1 is the dense network's.
        accuracy: top-1 in [0, 1] of the cut network's engine on training images; None without data.
        reason: why it can't be taken, if it can't.
    """

    precision: str
    dense_ms: float | None = None
    kept: float | None = None
    accuracy: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __str__(self) -> str:
        if self.kept is None:
            return f"{self.precision}: {self.reason}"
        right = "" if self.accuracy is None else f", {format_percent(self.accuracy)} of training images right"
        return f"{self.precision} keeps {format_percent(self.kept)} of the network's value{right}"


@dataclass(frozen=True)
class ChosenPrecision:
    """The job with its precision and its budget, and the trials by which they were chosen; none where both were given.

    The subject and its channels' scores are the same in every precision, so they need not be found again.
    """

    job: Job
    subject: Subject | None = None
    scores: Mapping[str, np.ndarray] | None = None
    trials: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, job: Job, subject: Subject | None, content: Mapping[str, Any]) -> ChosenPrecision:
        """Return what `to_json` told of an earlier run of the job."""
        chosen = replace(job, precision=content["chosen"], latency=parse_latency(content["budget"]))
        return cls(chosen, subject, trials=tuple(Trial(**trial) for trial in content["tried"]))

    def to_json(self) -> dict[str, Any]:
        """Return the part of a document that tells of the choice."""
        chosen, latency = self.job.precision, self.job.latency
        assert latency is not None
        budget = str(latency) if latency.ms is None else format_ms(latency.ms)
        said = "; ".join(map(str, sorted(self.trials, key=lambda trial: trial.precision != chosen)))
        return {
            "chosen": chosen,
            "budget": str(latency),
            "why": f"{chosen} was taken for {budget}: {said}",
            "tried": [trial.to_json() for trial in self.trials],
        }


def choose_precision(job: Job, progress: Progress, subject: Subject | None = None) -> ChosenPrecision:
    """Try every precision of the job's target, and take one.

    A budget in per cent means of the dense network in the target's own precision.

    Raises:
        BudgetError: none of them reaches the budget.
        EdgePruneError: whatever the target's own precision fails with.
    """
    assert job.latency is not None, "the job was checked"
    target = find_target(job.target)
    in_ms = job.latency
    trials: list[Trial] = []
    scores: Mapping[str, np.ndarray] | None = None
    for precision in (target.precision, *(one for one in target.precisions if one != target.precision)):
        asked = replace(job, precision=precision, latency=in_ms)
        reason = _obstacle(asked, subject, progress) if precision != target.precision else ""
        if reason:
            trials.append(Trial(precision, reason=reason))
        else:
            with prepare(asked, progress, subject, scores=scores) as ready:
                subject, scores = ready.subject, ready.choice.scores
                in_ms = LatencyBudget(ms=in_ms.of(ready.dense_ms))
                trials.append(_tried(ready, progress))
        progress.say(f"Precision {trials[-1]}")
    chosen = preferred(trials)
    if chosen is None:
        raise BudgetError(
            f"no precision reaches {format_ms(in_ms.ms or 0.0)}: {'; '.join(map(str, trials))}",
            remedy="allow more time, or lock fewer layers",
        )
    # A share of the own precision's latency stays one: it is the same request whatever the device took just now.
    latency = job.latency if chosen.precision == target.precision else in_ms
    taken = ChosenPrecision(replace(job, precision=chosen.precision, latency=latency), subject, scores, tuple(trials))
    progress.say(f"Precision: {taken.to_json()['why']}")
    return taken


def preferred(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial to take; None where none can be."""
    able = [trial for trial in trials if trial.kept is not None]
    best = max((trial.accuracy for trial in able if trial.accuracy is not None), default=None)
    if best is not None:
        able = [trial for trial in able if trial.accuracy is not None and trial.accuracy >= best - EQUAL]
    return min(able, key=lambda trial: (-(trial.kept or 0.0), EXACTNESS.index(trial.precision)), default=None)


def _obstacle(job: Job, subject: Subject | None, progress: Progress) -> str:
    """Return why a precision can't be had on the device, or with these data."""
    if job.precision == "int8" and subject is not None and subject.data is None:
        return "there are no training images to calibrate it on"
    try:
        with open_bench(
            job.target, device=job.devices[0], precision=job.precision, threads=job.threads, progress=progress
        ) as bench:
            bench.fingerprint()
    except (InputError, MissingError) as error:
        return error.message
    return ""


def _tried(ready: Prepared, progress: Progress) -> Trial:
    precision, dense_ms = ready.bench.settings.precision, ready.dense_ms
    try:
        solution = search(ready.choice, ready.table).best(ready.table_us(ready.budget))
    except BudgetError as error:
        return Trial(precision, dense_ms, reason=error.message)
    plan = ready.choice.plan(solution.widths)
    kept = sum(float(values[plan.widths[name]]) for name, values in ready.choice.values.items())
    return Trial(precision, dense_ms, kept, _accuracy(ready, plan, progress))


def _accuracy(ready: Prepared, plan: WidthPlan, progress: Progress) -> float | None:
    """Return the accuracy of the cut network's engine on training images that neither refitted nor quantized it."""
    data, seed = ready.subject.data, ready.job.seed
    if data is None:
        return None
    small = slim(ready.subject.model, plan)
    fitted, judge = divided(data.calibration(CALIBRATION_IMAGES + JUDGE_IMAGES, seed))
    images = [x for x, _ in fitted]
    compensate(small, ready.subject.model, plan, images, seed=seed, progress=progress)
    exported = export_onnx(fuse(small, ready.graph.foldable), ready.graph.example_inputs).SerializeToString()
    scales = np.concatenate([x.numpy() for x in images])[:QUANTIZATION_IMAGES] if ready.bench.quantizer else None
    model = ready.bench.typed(exported, scales)
    seen = [(x.numpy(), y.numpy()) for x, y in judge]
    return engine_accuracy(ready.bench, model, seen, images=sum(len(y) for _, y in judge), progress=progress)


def divided(drawn: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Divide images that were drawn at once, so that none is in both parts: what refits and quantizes, what judges.

    Args:
        drawn: batches of (images, labels).

    Returns:
        `CALIBRATION_IMAGES` images, but half of what there is at most, in batches; and the others.
    """
    left = min(CALIBRATION_IMAGES, sum(len(y) for _, y in drawn) // 2)
    fitted: list[Batch] = []
    judge: list[Batch] = []
    for x, y in drawn:
        if left:
            fitted.append((x[:left], y[:left]))
        if len(y) > left:
            judge.append((x[left:], y[left:]))
        left = max(0, left - len(y))
    return fitted, judge
