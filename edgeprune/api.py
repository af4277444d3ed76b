"""The public functions that do a whole step; `edgeprune` itself lists them with the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import pipeline
from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.subject import Network, python_subject, taken
from edgeprune.budget.choice import Choice
from edgeprune.budget.strategies import search
from edgeprune.budget.values import values_from_scores
from edgeprune.errors import InputError, nearest
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.job import Job, default_out
from edgeprune.latency.bench import open_bench
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.store import TableStore
from edgeprune.latency.trust import trusted_table
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.verify import verified
from edgeprune.training.data import Data
from edgeprune.units import parse_bytes, parse_latency

_BROUGHT = {"weights": "load them into the network first", "input_shape": "the example input has it"}
"""Fields of a job that a Python network brings with it, and what to do in place of giving them."""
_LISTS = ("lock", "devices")


def profile(
    model: Network,
    example_inputs: Any,
    *,
    target: str,
    device: str = "local",
    precision: str | None = None,
    threads: int | None = None,
    allow_inexact: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> NetworkTable:
    """Measure what the network's layers cost on a target, or read it where it was measured before.

    Args:
        model: the dense network; left alone.
        example_inputs: a tensor, or a tuple of positional arguments, of batch size 1.
        target: name of a profile, such as `openvino`.
        device: `local`, or `ssh://[user@]host[:port][/path/to/python]`.
        precision: of the engine; the target's own by default.
        threads: that the runtime may use; the target's own by default.
        allow_inexact: measure also what channels cost whose cut is inexact by nature, for a graph that was traced so.
        seed: of the widths that are measured.
        progress: where to show it.

    Raises:
        EdgePruneError: the network can't be traced or exported, the target can't be reached or is too busy.
    """
    model, example_inputs = taken(model, example_inputs)
    graph = verified(model, trace(model, example_inputs, allow_inexact=allow_inexact))
    with open_bench(target, device=device, precision=precision, threads=threads, progress=progress) as bench:
        store = TableStore()
        blueprint = Blueprint(model, graph, store.exports)
        return trusted_table(blueprint, bench, store, seed=seed, progress=progress)[0]


def plan(
    graph: ChannelGraph,
    table: NetworkTable,
    scores: Mapping[str, np.ndarray],
    *,
    latency_ms: float,
    align: int = 1,
    max_params: int | None = None,
    strategy: str = "latency",
) -> WidthPlan:
    """Return the widths that keep most score within a latency, by the table alone.

    Args:
        graph: from `trace`.
        table: from `profile`, of the same network; what `graph` has locked since stays as it is.
        scores: group -> one score a channel, higher is more important.
        latency_ms: the budget in milliseconds.
        align: widths are multiples of this; 1 leaves it to the measured steps.
        max_params: the most parameters that the network may have; None sets no limit.
        strategy: `latency`, or `flops`, `global`, `uniform` to compare with.

    Raises:
        BudgetError: no plan is that fast, or that small.
    """
    limits = {} if max_params is None else {"--max-params": max_params}
    choice = Choice(graph, scores, values_from_scores(graph, scores), align, limits, strategy)
    return choice.plan(search(choice, table).best(latency_ms * 1000).widths)


def export(
    model: Network,
    example_inputs: Any,
    *,
    target: str,
    latency: str,
    data: Data | tuple[Any, Any] | str | None = None,
    device: str | Sequence[str] = "local",
    out: str | Path | None = None,
    max_size: str | int | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> pipeline.Result:
    """Do the main job on a network: choose widths, cut, recover, export, verify, write the bundle.

    Args:
        model: the dense network; left alone.
        example_inputs: a tensor, or a tuple of positional arguments, of batch size 1.
        target: name of a profile.
        latency: budget with its unit: `10ms`, or `60%` of the dense network's.
        data: two loaders, for training and for validation, whose batches are (float32 images (N, C, H, W), int64
            labels (N,)); or a source of images as on the command line; None trains nothing.
        device: `local`, or `ssh://[user@]host[:port][/path/to/python]`; several share the filling of the table.
        out: the bundle's folder; `runs/CLASS-TARGET` by default.
        max_size: the most that the weights may take at the engine's precision: bytes, or a text like `25MB`.
        progress: where to show it.
        options: further fields of `edgeprune.job.Job`, which describes them: align, allow_inexact, allow_unverified,
            criterion, dry_run, epochs, force, lock, max_drop, max_params, precision, resume, rounds, seed, strategy,
            submodule, threads; mean, std and no_mirror are for data that are named. The network brings weights and
            input_shape with it.

    Returns:
        The result: `.content` as in `export --json`, `.exit_code`.

    Raises:
        EdgePruneError: as the command line's exit codes say.
    """
    for name, remedy in _BROUGHT.items():
        if options.get(name) is not None:
            raise InputError(f"{name} was given, and the network is a Python object", remedy=remedy)
    known = [one.name for one in fields(Job)]
    for name in options:
        if name not in known:
            raise InputError(
                f"edgeprune.export has no argument {name!r}{nearest(name, known)}",
                remedy="help(edgeprune.export) lists those that it has",
            )
    options.setdefault("devices", device)
    for name in _LISTS:
        if name in options:
            options[name] = (options[name],) if isinstance(options[name], str) else tuple(options[name])
    read: dict[str, Any] = {name: options[name] for name in ("submodule", "mean", "std", "seed") if name in options}
    read["mirror"] = not options.get("no_mirror", False)
    subject = python_subject(model, example_inputs, data, **read)
    job = Job(
        model=subject.name,
        target=target,
        latency=parse_latency(latency),
        data=data if isinstance(data, str) else None,
        out=Path(out) if out is not None else default_out(subject.name, target),
        max_size=parse_bytes(max_size) if isinstance(max_size, str) else max_size,
        **options,
    )
    return pipeline.export(job.checked(by_name=False), progress, subject=subject)
