"""From a plan to an engine that was measured: cut, refit, recover, export, verify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeprune.artifacts.subject import Network
from edgeprune.artifacts.workspace import Workspace
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
class Cut:
    """A network that was cut and shipped.

    Attributes:
        chosen: what was decided, as `decision.decide` says it.
        plan: its widths.
        shipped: what was measured on the shipped files.
        accuracy: top-1 in [0, 1] of the network before it was exported; None without data.
    """

    chosen: Mapping[str, Any]
    plan: WidthPlan
    shipped: Shipped
    accuracy: float | None


def cut(ready: Prepared, chosen: Mapping[str, Any], work: Workspace, attempt: int, progress: Progress) -> Cut:
    """Cut a network as was decided, recover it and write its files into the run's folder.

    Args:
        ready: the dense network on its target.
        chosen: what was decided.
        work: the run; `bundle` in it is written anew.
        attempt: counted from 1; the training of each has a checkpoint of its own.
        progress: where to show it.
    """
    plan = WidthPlan.from_json(ready.graph, chosen["plan"])
    with ready.timed("cut"):
        small = slim(ready.subject.model, plan, check=False)
        difference = checked(ready.subject.model, plan, small)
    with ready.timed("recover"):
        small, accuracy = _recovered(ready, plan, small, work, attempt, progress)
    with ready.timed("export and verify"):
        known_ms = chosen["measured_ms"]
        reference = None if known_ms is None else Reference(ready.blueprint.at(plan), known_ms)
        shipped = ship(ready, plan, small, work.path("bundle"), reference, difference, progress)
    return Cut(chosen, plan, shipped, accuracy)


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
    ready: Prepared, plan: WidthPlan, small: Network, work: Workspace, attempt: int, progress: Progress
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
            checkpoint=work.path(f"recovery-{attempt}.ckpt"),
            progress=progress,
        )
    return small, evaluate(small, data, progress=progress)
