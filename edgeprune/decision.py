"""Which widths: foretold by the table alone, or decided once on the device and remembered beside the table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from edgeprune.budget.amounts import WEIGHT_BYTES
from edgeprune.budget.explain import solve_or_explain
from edgeprune.budget.refine import refine
from edgeprune.budget.solve import Solution
from edgeprune.budget.strategies import Search
from edgeprune.errors import BudgetError, OverBudgetError
from edgeprune.prepare import Prepared
from edgeprune.progress import Progress
from edgeprune.targets.target import find_target
from edgeprune.units import LatencyBudget, ceil_ms, format_ms

FILLS = 0.93
"""An earlier plan for the same milliseconds is taken again if it still meets them and uses at least this share of them.

If it used less from the start (nothing was cut, or another limit held it back), it must use this share of what it used.
"""


def foretold(ready: Prepared, budgets: Sequence[LatencyBudget], found: Search) -> list[Solution | BudgetError]:
    """Return for each budget the best plan that a search on the table finds, or why there is none."""
    plans: list[Solution | BudgetError] = []
    for budget in budgets:
        budget_us = budget.of(ready.dense_ms) / ready.drift * 1000
        try:
            plans.append(solve_or_explain(found, ready.table, budget_us, partial(ways_out, ready), ready.drift))
        except BudgetError as error:
            plans.append(error)
    return plans


def ways_out(ready: Prepared, floor_ms: float) -> str:
    """Return the three things that would help where a budget is under a floor."""
    job, settings = ready.job, ready.bench.settings
    weight = WEIGHT_BYTES[settings.precision]
    lower = [name for name in find_target(job.target).precisions if WEIGHT_BYTES[name] < weight]
    faster = [f"--precision {' or '.join(lower)}"] * bool(lower)
    faster += [f"--threads above {settings.threads}"] * ready.bench.on_cpu
    faster += ["a faster --target"]
    inexact = len(ready.graph.groups) - len(ready.graph.cuttable)
    freed = [f"leave out --lock {' --lock '.join(job.lock)}"] * bool(job.lock)
    freed += [f"leave out {' and '.join(ready.choice.limits)}"] * bool(ready.choice.limits)
    freed += [f"--align 1 instead of {ready.choice.align}"] * (ready.choice.align > 1)
    freed += [f"--allow-inexact frees {inexact} groups"] * bool(inexact)
    freed += ["start from a network with fewer or cheaper layers"]
    return (
        f"three ways out: allow more time, from --latency {ceil_ms(floor_ms)} on; run it faster, with "
        f"{' or '.join(faster)}; or let more be removed: {', or '.join(freed)}"
    )


def certificate(solution: Solution) -> dict[str, Any]:
    """Return what is known of a solution's quality: `edgeprune.export/1`'s "solver"."""
    return {"gap": solution.gap, "seconds": solution.seconds, "binding": list(solution.binding)}


def promised(ready: Prepared, solution: Solution, floor_ms: float) -> dict[str, Any]:
    """Return what `decide` does where the device can't be reached: the best plan of its table, and nothing measured."""
    plan = ready.choice.plan(solution.widths)
    return {
        "plan": plan.to_json(),
        "predicted_ms": ready.table.predict(plan.widths).ms,
        "measured_ms": None,
        "floor_ms": floor_ms,
        "rounds": 0,
        "solver": certificate(solution),
        "networks": [],
    }


def decide(ready: Prepared, budget_ms: float, progress: Progress, rounds: int | None = None) -> dict[str, Any]:
    """Return the plan of most value that was measured within the budget, after `rounds` measurements at most.

    The same request finds the same plan again: what the closed loop decided is kept beside the table. In the
    table's units, a budget in milliseconds changes whenever the device is a little faster or slower; the earlier plan
    is then taken again as long as it still fits, and uses enough of the budget.

    Raises:
        BudgetError: the budget is under the floor.
        OverBudgetError: no plan that was built stayed within it.
    """
    fingerprint = ready.bench.fingerprint()
    absolute = ready.job.latency is not None and ready.job.latency.ms is not None
    rounds = ready.job.rounds if rounds is None else rounds
    asked_ms = budget_ms / (1.0 if absolute else ready.drift)
    key = {**_reasons(ready), "rounds": rounds, "budget_ms": float(f"{asked_ms:.9g}")}
    decided = ready.store.decision(fingerprint, key)
    if decided is None or (absolute and not _still_fits(decided, decided["measured_ms"] * ready.drift / budget_ms)):
        found = _refined(ready, budget_ms, rounds, progress)
        decided = {**found, "used": found["measured_ms"] * ready.drift / budget_ms}
        ready.store.decide(fingerprint, key, decided)
    else:
        progress.say("the plan is that of an earlier run with the same network, data, settings and budget")
    networks = [_as_now(ready, one) for one in decided.get("networks", ())]
    return {**_as_now(ready, decided), "networks": networks}


def _still_fits(decided: dict[str, Any], used: float) -> bool:
    """Whether a plan that uses this share of its budget now is within it, and uses about as much as could be used."""
    then = float(decided.get("used", 1.0))
    return (FILLS if then >= FILLS else FILLS * then) <= used <= 1


def _as_now(ready: Prepared, decided: dict[str, Any]) -> dict[str, Any]:
    """Return what was decided with its times where the dense network takes what it takes now."""
    return {name: value * ready.drift if name.endswith("_ms") else value for name, value in decided.items()}


def _reasons(ready: Prepared) -> dict[str, Any]:
    """Return what decides the widths, the budget and the table aside."""
    job, subject = ready.job, ready.subject
    return {
        "network": ready.table.network,
        "model": subject.digest,
        "data": subject.data.digest if subject.data is not None else None,
        "normalisation": [subject.source()[name] for name in ("mean", "std")],
        "criterion": ready.criterion,
        "seed": job.seed,
        "allow_inexact": job.allow_inexact,
        "align": ready.choice.align,
        "lock": list(job.lock),
        "strategy": job.strategy,
        "limits": dict(ready.choice.limits),
        "version": version("edgeprune"),
    }


def _refined(ready: Prepared, budget_ms: float, rounds: int, progress: Progress) -> dict[str, Any]:
    """Close the loop; return what it chose, its times where the dense network takes what the table says."""
    refined = refine(
        ready.choice,
        ready.table,
        ready.blueprint,
        ready.bench,
        ready.store,
        budget_ms / ready.drift,
        rounds=rounds,
        drift=ready.drift,
        progress=progress,
    )
    ready.table = refined.table
    if refined.chosen is None:
        fastest = min(one.measured_ms for one in refined.rounds)
        raise OverBudgetError(
            f"the fastest of {len(refined.rounds)} networks that were built took {format_ms(fastest * ready.drift)}, "
            f"the budget is {format_ms(budget_ms)}",
            remedy="allow more time, or more --rounds",
        )
    chosen = refined.chosen
    return {
        "plan": chosen.plan.to_json(),
        "predicted_ms": chosen.predicted_ms,
        "measured_ms": chosen.measured_ms,
        "floor_ms": refined.floor_ms,
        "rounds": refined.sessions,
        "solver": certificate(chosen.solution),
        "networks": [
            {
                "predicted_ms": one.predicted_ms,
                "measured_ms": one.measured_ms,
                "sessions": one.sessions,
                "macs": one.plan.macs,
                "chosen": one is chosen,
            }
            for one in refined.rounds
        ],
    }
