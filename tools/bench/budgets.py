"""Print whether budgets are kept: networks cut for latencies by the closed loop, then measured once more.

    python tools/bench/budgets.py torchvision:resnet18 torchvision:mobilenet_v2 --input 1x3x224x224
    python tools/bench/budgets.py models.py:resnet56 --input 1x3x32x32 --target onnxruntime

The table is filled as `edgeprune profile` fills it (`EDGEPRUNE_TABLES` names its folder), and the widths are decided as
`edgeprune export` decides them, without data: the channels' scores say what a width is worth. Nothing is trained.

    decided  latency of the chosen network, from all sessions of the closed loop, over the budget
    again    the same, timed once more beside the dense network alone, by the longest rule
    rounds   measurements that the loop took
    seconds  of the loop, the table there already

A budget that is under the floor is not reachable; one that no network was measured within is not kept.

What was found is kept in --out, a line a budget: a killed run goes on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from network_options import parser_of_many

from edgeprune.decision import decide
from edgeprune.errors import BudgetError, OverBudgetError
from edgeprune.graph.plan import WidthPlan
from edgeprune.job import Job
from edgeprune.latency.bench import Reference
from edgeprune.latency.rule import FINAL
from edgeprune.prepare import Prepared, prepare
from edgeprune.progress import SILENT
from edgeprune.records import append_lines, read_lines
from edgeprune.units import LatencyBudget, parse_latencies


def main() -> None:
    """Decide and measure what is lacking, and print the table."""
    parser = parser_of_many(__doc__, "runs/budgets")
    parser.add_argument("--budgets", type=parse_latencies, default="80%,60%,45%,30%")
    options = parser.parse_args()
    print(f"{'network':22} {'budget':>7} {'of':>9}  decided   again  rounds  seconds", flush=True)
    lines = []
    for model in options.models:
        for line in kept(model, options):
            lines.append(line)
            print(_row(line), flush=True)
    reachable = sum(line["reached"] for line in lines)
    decided = [line for line in lines if "decided" in line]
    if decided:
        print(
            f"{reachable} of {len(lines)} reachable: decided within the budget"
            f" {sum(line['decided'] <= 1 for line in decided)}, measured again within it"
            f" {sum(line['again'] <= 1 for line in decided)}; median use"
            f" {statistics.median(line['decided'] for line in decided):.1%}, most rounds"
            f" {max(line['rounds'] for line in decided)}"
        )


def kept(model: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a line for each budget of a network: known, or found now."""
    path = options.out / f"{model.rpartition(':')[2]}-{options.target}-{options.threads}.jsonl"
    known = {line["budget"]: line for line in read_lines(path)}
    job = Job(model=model, target=options.target, input_shape=options.input, threads=options.threads)
    with ExitStack() as stack:
        ready = None
        for budget in options.budgets:
            if str(budget) not in known:
                ready = ready or stack.enter_context(prepare(job, SILENT))
                line = {"network": path.stem, "budget": str(budget), "dense_ms": ready.dense_ms, **cut(ready, budget)}
                known[str(budget)] = line
                append_lines(path, [line])
            yield known[str(budget)]


def cut(ready: Prepared, budget: LatencyBudget) -> dict[str, Any]:
    """Decide the widths for a budget, and measure that network again."""
    budget_ms, started = budget.of(ready.dense_ms), time.perf_counter()
    try:
        decided = decide(replace(ready, job=replace(ready.job, latency=budget)), budget_ms, SILENT)
    except BudgetError as error:
        return {"reached": False, "why": str(error)}
    except OverBudgetError as error:
        return {"reached": True, "why": str(error)}
    seconds = time.perf_counter() - started
    plan = WidthPlan.from_json(ready.graph, decided.plan)
    dense = Reference(ready.blueprint.at(WidthPlan.dense(ready.graph)), ready.dense_ms)
    again = ready.bench.measure({"network": ready.blueprint.at(plan)}, FINAL, dense)["network"]
    return {
        "reached": True,
        "decided": (decided.measured_ms or 0.0) / budget_ms,
        "again": again.median_ms / budget_ms,
        "trusted": again.trusted,
        "rounds": decided.rounds,
        "seconds": seconds,
        "plan": decided.plan,
    }


def _row(line: dict[str, Any]) -> str:
    start = f"{line['network']:22} {line['budget']:>7} {line['dense_ms']:6.3g} ms"
    if "decided" not in line:
        return f"{start}  not {'kept' if line['reached'] else 'reachable'}: {line['why']}"
    distrusted = "" if line["trusted"] else "  (measured on a busy machine)"
    return (
        f"{start}  {line['decided']:7.1%} {line['again']:7.1%}  {line['rounds']:6}  {line['seconds']:7.0f}{distrusted}"
    )


if __name__ == "__main__":
    main()
