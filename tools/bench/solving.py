"""Print, for each network, how long the widths take to solve for, and to which proven gap.

    python tools/bench/solving.py                    all torchvision classification networks without attention
    python tools/bench/solving.py resnet50 densenet121

Nothing is measured: latencies are those of tests/simulated.py, a formula with steps of 4 input and 8 output channels,
and the table is filled with them as `edgeprune profile` fills it. Weights are random, scored by their length.

All seconds are processor time: the solver works in one thread, and other programs don't count.

    groups    channel groups that may be cut
    layers    rows of the latency table
    table     seconds for tracing, exporting, and building the table's networks
    build     seconds for the programme, which all budgets share
    solve     seconds for each --latency, in their order; nan where that is under the floor
    gap       the largest of their proven gaps
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torchvision
from channel_groups import load

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.budget.choice import Choice
from edgeprune.budget.strategies import search
from edgeprune.budget.values import values_from_scores
from edgeprune.errors import BudgetError
from edgeprune.graph.trace import trace
from edgeprune.latency.profile import fill
from edgeprune.latency.store import TableStore
from edgeprune.pruning.importance import scores
from edgeprune.units import LatencyBudget, parse_latencies
from tests.simulated import SimulatedBench

ATTENTION = ("vit_", "swin", "maxvit")


def main() -> None:
    """Solve for every budget of every network, print a row each, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--latency", type=parse_latencies, default="80%,60%,45%,30%")
    options = parser.parse_args()
    names = options.names or [
        name for name in torchvision.models.list_models(torchvision.models) if not name.startswith(ATTENTION)
    ]
    print(f"{'network':22} groups layers  table  build  solve{'':{6 * len(options.latency)}} gap", flush=True)
    slowest, gaps = [], []
    for name in names:
        seconds, gap = row(name, options.latency)
        slowest.append(float(np.nanmax(seconds)))
        gaps.append(gap)
    print(
        f"{len(names)} networks: slowest solve {max(slowest):.2f} s, median of the networks' slowest"
        f" {np.median(slowest):.2f} s, largest gap {max(gaps):.3%}"
    )


def row(name: str, budgets: Sequence[LatencyBudget]) -> tuple[list[float], float]:
    """Print a network's row; return the seconds of its solves, and the largest gap."""
    started = time.process_time()
    subject = load(name)
    model = subject.model.eval()
    graph = trace(model, subject.inputs)
    with tempfile.TemporaryDirectory() as folder:
        table = fill(Blueprint(model, graph), SimulatedBench(), TableStore(Path(folder)))  # type: ignore[arg-type]
    table_s = time.process_time() - started
    ranked = scores(model, graph, "l2", None)
    started = time.process_time()
    found = search(Choice(graph, ranked, values_from_scores(graph, ranked)), table)
    dense_us = table.dense.engine_ms * 1000
    build_s = time.process_time() - started
    solutions, seconds = [], []
    for budget in budgets:
        started = time.process_time()
        try:
            solutions.append(found.best(budget.of(dense_us)))
        except BudgetError:
            seconds.append(float("nan"))
        else:
            seconds.append(time.process_time() - started)
    gap = max(one.gap or 0.0 for one in solutions)
    shown = " ".join(f"{one:5.2f}" for one in seconds)
    print(
        f"{name:22} {len(graph.cuttable):6} {len(table.rows):6} {table_s:6.1f} {build_s:6.2f}  {shown}  {gap:.3%}",
        flush=True,
    )
    return seconds, gap


if __name__ == "__main__":
    main()
