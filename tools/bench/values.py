"""Print what is left of the accuracy without training, by where the values of the widths come from.

    python tools/bench/values.py net.py:make --weights w.pth --data images.npz --input 1x3x32x32 --latency 70%,50%,35%

The widths are chosen for the latency that the table predicts, filled first where it is not (`EDGEPRUNE_TABLES`); then
the network is cut and refitted as `edgeprune export` does it.

    scores     values summed up from the channels' scores
    measured   scaled by what two widths of each group were measured to cost (`pruning/sensitivity.py`); left out where
               the network is too large for that
"""

from __future__ import annotations

import time
from dataclasses import replace

from network_options import network_of, parser_of, target_name

from edgeprune.budget.strategies import search
from edgeprune.budget.values import values_from_scores
from edgeprune.job import Job
from edgeprune.prepare import CALIBRATION_IMAGES, prepare
from edgeprune.progress import SILENT
from edgeprune.pruning.compensate import compensate
from edgeprune.pruning.sensitivity import measured_losses, values_from_losses
from edgeprune.pruning.slim import slim
from edgeprune.training.loop import evaluate
from edgeprune.units import parse_latencies


def main() -> None:
    """Plan, cut, refit, evaluate; print one row a budget and kind of values."""
    parser = parser_of(__doc__)
    parser.add_argument("--target", type=target_name, default="openvino")
    parser.add_argument("--latency", type=parse_latencies, default="70%,50%,35%")
    options = parser.parse_args()
    job = Job(**network_of(options), target=options.target, threads=1)
    with prepare(job, SILENT, measure=False) as ready:
        model, data, graph, scores = ready.subject.model, ready.subject.data, ready.graph, ready.choice.scores
        assert data is not None
        batches = data.calibration(CALIBRATION_IMAGES, job.seed)
        guessed = values_from_scores(graph, scores)
        kinds = {"scores": guessed}
        started = time.perf_counter()
        losses = measured_losses(model, graph, scores, batches, seed=job.seed)
        if losses:
            kinds["measured"] = values_from_losses(graph, guessed, losses)
        print(f"{ready.subject.name}: dense {evaluate(model, data):.1%}, {data.description}")
        print(f"measuring took {time.perf_counter() - started:.0f} s")
        print("latency  values    top-1   MACs")
        for budget in options.latency:
            for name, values in kinds.items():
                choice = replace(ready.choice, values=values)
                found = search(choice, ready.table).best(budget.of(ready.table.dense.engine_ms) * 1000)
                plan = choice.plan(found.widths)
                small = slim(model, plan)
                compensate(small, model, plan, [images for images, _ in batches], seed=job.seed)
                print(f"{budget!s:8} {name:9} {evaluate(small, data):6.1%} {plan.macs / graph.macs():6.1%}", flush=True)


if __name__ == "__main__":
    main()
