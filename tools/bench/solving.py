"""Print, for each network, how long the widths take to solve for, and to which proven gap.

    python tools/bench/solving.py                    torchvision's classification networks without attention
    python tools/bench/solving.py resnet50 densenet121

Nothing is measured and nothing is built: a layer's latency is a formula with steps of 4 input and 8 output channels, at
the widths of the networks that `edgeprune profile` would build. Weights are random, scored by their length.

All seconds are processor time: the solver works in one thread, and other programs don't count.

    groups    channel groups that may be cut
    layers    rows of the latency table
    export    seconds for tracing and exporting
    build     seconds for the programme, which all budgets share
    solve     seconds for each --latency, in their order; nan where that is under the floor
    gap       the largest of their proven gaps
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torchvision
from channel_groups import load
from network_options import Parser

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.budget.choice import Choice
from edgeprune.budget.strategies import search
from edgeprune.budget.values import values_from_scores
from edgeprune.errors import BudgetError
from edgeprune.graph.layers import PRODUCTS, EngineNode
from edgeprune.graph.trace import trace
from edgeprune.latency.network import NetworkRecord, Row
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.sampling import TOTAL_NETWORKS, numbered_plan
from edgeprune.latency.table import LatencyTable
from edgeprune.pruning.importance import scores
from edgeprune.targets.target import Fingerprint
from edgeprune.units import LatencyBudget, parse_latencies

LEFT_OUT = ("vit_", "swin", "maxvit", "regnet_y_128gf")
"""Attention, and what is more than the 2 GB that an ONNX file holds."""

FIXED_US = 5.0
NETWORK = "by formula"


def main() -> None:
    """Solve for every budget of every network, print a row each, and the medians."""
    parser = Parser(__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--latency", type=parse_latencies, default="80%,60%,45%,30%")
    options = parser.parse_args()
    names = options.names or [
        name for name in torchvision.models.list_models(torchvision.models) if not name.startswith(LEFT_OUT)
    ]
    print(f"{'network':22} groups layers export  build  solve{'':{6 * len(options.latency) - 6}}    gap", flush=True)
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
    blueprint = Blueprint(model, graph)
    nodes = blueprint.nodes
    export_s = time.process_time() - started
    table = NetworkTable(LatencyTable(Fingerprint({"device": "formula"})), NETWORK, nodes)
    for number in range(TOTAL_NETWORKS):
        plan = numbered_plan(number, graph, table, seed=0)
        records = (*table.table.records, record(nodes, plan.widths))
        table = NetworkTable(LatencyTable(table.table.fingerprint, records), NETWORK, nodes)
    ranked = scores(model, graph, "l2", None)
    started = time.process_time()
    found = search(Choice(graph, ranked, values_from_scores(graph, ranked)), table)
    build_s = time.process_time() - started
    seconds, gaps = [], [0.0]
    for budget in budgets:
        started = time.process_time()
        try:
            gaps.append(found.best(budget.of(table.dense.engine_ms) * 1000).gap or 0.0)
        except BudgetError:
            seconds.append(math.nan)
        else:
            seconds.append(time.process_time() - started)
    shown = " ".join(f"{one:5.2f}" for one in seconds)
    print(
        f"{name:22} {len(graph.cuttable):6} {len(table.rows):6} {export_s:6.1f} {build_s:6.2f}  {shown}"
        f"  {max(gaps):.3%}",
        flush=True,
    )
    return seconds, max(gaps)


def record(nodes: Mapping[str, EngineNode], widths: Mapping[str, int]) -> NetworkRecord:
    """Return a network's record by the formula: what it computes takes time, what it looks at otherwise does not."""
    rows = tuple(
        Row((node.name,), node.key(widths), microseconds(node, widths))
        for node in nodes.values()
        if node.op not in ("Reshape", "Flatten", "Constant", "Identity")
    )
    engine_us = FIXED_US + sum(one.us for one in rows)
    return NetworkRecord(NETWORK, dict(widths), engine_us / 1000, 0.0, rows, 0.0)


def microseconds(node: EngineNode, widths: Mapping[str, int]) -> float:
    """Return 1 us and 0.1 ns a multiply-accumulate for products, half a ns an entry for the rest."""
    cin, cout = node.cin.width(widths), node.cout.width(widths)
    positions = math.prod(node.size)
    if node.op not in PRODUCTS:
        return 0.2 + 5e-4 * positions * max(cin, cout)
    kernel = re.search(r"kernel_shape=([\dx]+)", node.detail)
    taps = math.prod(map(int, kernel[1].split("x"))) if kernel else 1
    grouped = re.search(r"channels_per_group=(\d+)", node.detail)
    read = 1 if "depthwise" in node.detail else int(grouped[1]) if grouped else cin
    return 1 + 1e-4 * positions * taps * (-(-read // 4) * 4) * (-(-cout // 8) * 8)


if __name__ == "__main__":
    main()
