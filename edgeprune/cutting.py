"""From a plan to an engine that was measured: cut, refit, recover, export, verify."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.artifacts.subject import Network
from edgeprune.artifacts.workspace import Workspace
from edgeprune.decision import Decision
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.bench import Reference
from edgeprune.prepare import CALIBRATION_IMAGES, Prepared
from edgeprune.progress import Progress
from edgeprune.pruning.compensate import compensate
from edgeprune.pruning.slim import checked, slim
from edgeprune.shipping import Shipped, ship
from edgeprune.training.loop import Recipe, evaluate, recover

DEFAULT_EPOCHS = 3


@dataclass(frozen=True)
class Attempt:
    """A network that was cut and shipped.

    Attributes:
        decision: what was decided.
        plan: its widths.
        shipped: what was measured on the shipped files.
        accuracy: top-1 in [0, 1] of the network before it was exported; None without data.
    """

    decision: Decision
    plan: WidthPlan
    shipped: Shipped
    accuracy: float | None


def attempt(ready: Prepared, decision: Decision, work: Workspace, number: int, progress: Progress) -> Attempt:
    """Cut a network as was decided, recover it and write its files into the run's folder.

    Args:
        ready: the dense network on its target.
        decision: what was decided.
        work: the run; `bundle` in it is written anew.
        number: of the attempt, from 1; the training of each has a checkpoint of its own.
        progress: where to show it.
    """
    plan = WidthPlan.from_json(ready.graph, decision.plan)
    with ready.stopwatch.timed("cut"):  # 6
        small = slim(ready.subject.model, plan, check=False)
        difference = checked(ready.subject.model, plan, small)
    with ready.stopwatch.timed("recover"):  # 7
        small, accuracy = _recovered(ready, plan, small, work, number, progress)
    with ready.stopwatch.timed("export and verify"):  # 8, 9
        known_ms = decision.measured_ms
        reference = None if known_ms is None else Reference(ready.blueprint.at(plan), known_ms)
        shipped = ship(ready, plan, small, work.path("bundle"), reference, difference, progress)
    return Attempt(decision, plan, shipped, accuracy)


def epochs_of(ready: Prepared, *, narrower: bool) -> int:
    """Return for how many epochs a network is trained after it was cut.

    Args:
        ready: the dense network on its target.
        narrower: something was cut; else there is nothing to recover, and training is only what was asked for.
    """
    if ready.subject.data is None:
        return 0
    usual = DEFAULT_EPOCHS if narrower else 0
    return usual if ready.job.epochs is None else ready.job.epochs


def _recovered(
    ready: Prepared, plan: WidthPlan, small: Network, work: Workspace, number: int, progress: Progress
) -> tuple[Network, float | None]:
    """Return the cut network with its accuracy recovered as far as the data allow, and that accuracy."""
    data, job = ready.subject.data, ready.job
    if data is None:
        return small, None
    images = [batch for batch, _ in data.calibration(CALIBRATION_IMAGES, job.seed)]
    compensate(small, ready.subject.model, plan, images, seed=job.seed, progress=progress)
    epochs = epochs_of(ready, narrower=plan.widths != WidthPlan.dense(ready.graph).widths)
    if epochs:
        small = recover(
            small,
            ready.subject.model,
            data,
            Recipe(epochs=epochs, seed=job.seed),
            checkpoint=work.path(f"recovery-{number}.ckpt"),
            progress=progress,
        )
    return small, evaluate(small, data, progress=progress)
