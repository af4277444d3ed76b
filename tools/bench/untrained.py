"""Print what is left of the accuracy right after the cut, by criterion, without any training.

    python tools/bench/untrained.py net.py:make --weights w.pth --data images.npz --input 1x3x32x32 --keep 0.7,0.5

Every criterion cuts to the same widths, so that they differ in which channels stay: `--keep` of every exact group, or
the widths of a bundle (`--plan runs/bundle/plan.json`).

    macs          multiply-accumulates left
    re-estimated  top-1 on the validation images, BatchNorm's statistics measured again
    compensated   the same, the layers refitted by least squares instead
    seconds       for the scores, for the refit
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from network_options import network_of, parser_of

from edgeprune.artifacts.subject import load_subject
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.prepare import CALIBRATION_IMAGES
from edgeprune.pruning.compensate import compensate
from edgeprune.pruning.importance import CRITERIA, scores
from edgeprune.pruning.slim import slim
from edgeprune.pruning.statistics import reestimate
from edgeprune.training.loop import evaluate
from edgeprune.units import parse_floats


def main() -> None:
    """Cut, evaluate, print one row a criterion."""
    parser = parser_of(__doc__)
    parser.add_argument("--keep", type=parse_floats, default=(0.7, 0.5))
    parser.add_argument("--plan", type=Path)
    parser.add_argument(
        "--criteria", default=",".join(name for name, one in CRITERIA.items() if not one.needs_training)
    )
    options = parser.parse_args()
    subject = load_subject(**network_of(options))
    model, data = subject.model, subject.data
    assert data is not None
    graph = trace(model, subject.example_inputs)
    batches = data.calibration(CALIBRATION_IMAGES, 0)
    images = [batch for batch, _ in batches]
    print(f"{subject.name}: dense {evaluate(model, data):.1%}, {data.description}")
    print("criterion      macs  re-estimated  compensated  seconds")
    for criterion in options.criteria.split(","):
        started = time.perf_counter()
        found = scores(model, graph, criterion, batches)
        scoring_s = time.perf_counter() - started
        plans = [WidthPlan.uniform(graph, keep, found) for keep in options.keep]
        if options.plan:
            groups = json.loads(options.plan.read_text())["groups"]
            plans = [WidthPlan.from_scores(graph, found, {name: one["width"] for name, one in groups.items()})]
        for plan in plans:
            plain, refitted = slim(model, plan), slim(model, plan)
            reestimate(plain, batches)
            started = time.perf_counter()
            compensate(refitted, model, plan, images)
            seconds = time.perf_counter() - started
            print(
                f"{criterion:12s} {plan.macs / graph.macs():6.1%} {evaluate(plain, data):13.1%} "
                f"{evaluate(refitted, data):12.1%}  {scoring_s:.1f} + {seconds:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
