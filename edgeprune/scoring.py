"""What scores the channels, and what each width is worth for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np

from edgeprune.artifacts.subject import Subject
from edgeprune.budget.values import values_from_scores
from edgeprune.graph.channels import ChannelGraph
from edgeprune.job import Job
from edgeprune.latency.store import TableStore
from edgeprune.progress import Progress
from edgeprune.pruning.importance import usable, without_training
from edgeprune.pruning.sensitivity import measured_losses, values_from_losses
from edgeprune.training.images import Batch

TRAINED = "trained"
"""The criterion that takes what training for pruning has given."""


def scored_by(job: Job, subject: Subject, graph: ChannelGraph) -> tuple[ChannelGraph, str]:
    """Return the criterion, and the graph without the groups that it says nothing about.

    What training for pruning has given counts before all else; channels that it gave nothing stay.

    Raises:
        InputError: the criterion that was asked for needs data or a training that there is not.
    """
    if job.criterion is not None:
        usable(job.criterion, data=subject.data is not None, trained=bool(subject.importances))
    by_data = "obs" if subject.data is not None else "l2"
    if job.criterion not in (None, TRAINED) or not subject.importances:
        return graph, job.criterion or by_data
    rest = without_training(graph, subject.importances)
    if job.criterion is None and len(rest) == len(graph.groups):
        return graph, by_data
    return graph.lock(rest, "training for pruning gave it no importance; --criterion takes another"), TRAINED


def values_of(
    job: Job,
    subject: Subject,
    graph: ChannelGraph,
    criterion: str,
    scores: Mapping[str, np.ndarray],
    batches: Sequence[Batch] | None,
    store: TableStore,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Return group -> value of each width: as measured where there are data, else as the scores say.

    Also where training for pruning has given the scores: they rank a group's channels, but until the training has told
    what matters from what does not, they say little of what one group is worth beside another.
    """
    guessed = values_from_scores(graph, scores)
    if batches is None:
        return guessed
    assert subject.data is not None
    network = [subject.digest, graph.calls, list(subject.input_shape)]
    widths = {group.name: group.channels for group in graph.cuttable}
    images = [subject.data.digest, subject.mean, subject.std]
    asked = [network, images, criterion, job.seed, widths, version("edgeprune")]
    name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    losses = measured_losses(
        subject.model,
        graph,
        scores,
        batches,
        cache=store.root / "sensitivity" / f"{name}.jsonl",
        seed=job.seed,
        progress=progress,
    )
    return values_from_losses(graph, guessed, losses) if losses else guessed
