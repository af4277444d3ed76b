"""Print how well latencies repeat on this machine: the scatter of ratios between networks over several sessions.

    python tools/bench/repeatability.py                                  the demo, OpenVINO, 8 sessions
    python tools/bench/repeatability.py torchvision:resnet18 --target onnxruntime --sessions 5

Three networks take turns in every session, as they do in the closed loop: the dense one, one of half the widths, and a
neighbour of that with one group a step wider.

    half/dense      what a budget in per cent is decided by, from one session
    neighbour/half  what tells two candidate plans apart
    level           geometric standard deviation of the dense network's own time from session to session
    undisturbed     share of the samples that count (the median of the three networks)
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import torch
from network_options import Parser, target_name

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.source import load_source
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency.bench import open_bench
from edgeprune.latency.rule import LONG


def main() -> None:
    """Measure and print one row a session, then the scatter."""
    parser = Parser(__doc__)
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--target", type=target_name, default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=8)
    options = parser.parse_args()
    source = load_source(options.model)
    blueprint = Blueprint(source.model, trace(source.model, torch.zeros(source.input_shape)))
    graph = blueprint.graph
    half = {group.name: max(8, group.channels // 16 * 8) for group in graph if group.exact}
    half = {name: min(width, graph.group(name).channels) for name, width in half.items()}
    widest = max(half, key=lambda name: graph.group(name).channels)
    plans = {
        "dense": WidthPlan.dense(graph),
        "half": WidthPlan.from_scores(graph, {}, half),
        "neighbour": WidthPlan.from_scores(graph, {}, half | {widest: half[widest] + 8}),
    }
    models = {name: blueprint.at(plan) for name, plan in plans.items()}
    print(LONG.sentence())
    rows = []
    with open_bench(options.target, threads=options.threads) as bench:
        for _ in range(options.sessions):
            found = bench.measure(models, LONG)
            ms = {name: one.median_ms for name, one in found.items()}
            undisturbed = statistics.median(one.undisturbed for one in found.values())
            rows.append((ms["dense"], ms["half"] / ms["dense"], ms["neighbour"] / ms["half"], undisturbed))
            print("dense {:.3f} ms  half/dense {:.4f}  neighbour/half {:.4f}  undisturbed {:.0%}".format(*rows[-1]))
    levels, ratios, neighbours, _ = zip(*rows, strict=True)
    print(f"scatter: half/dense {_scatter(ratios):.1%}, neighbour/half {_scatter(neighbours):.1%}, ", end="")
    print(f"level {_scatter(levels):.1%}")


def _scatter(values: Sequence[float]) -> float:
    return float(np.std(np.log(values), ddof=1))


if __name__ == "__main__":
    main()
