"""Which widths: decided once for a request on a table, and remembered beside the table."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from edgeprune.budget.refine import refine
from edgeprune.errors import OverBudgetError
from edgeprune.prepare import Prepared
from edgeprune.progress import Progress
from edgeprune.units import format_ms


def decide(ready: Prepared, budget_ms: float, progress: Progress) -> dict[str, Any]:
    """Return the plan of most value that was measured within the budget.

    The same request finds the same plan again: what the closed loop decided is kept beside the table.

    Raises:
        BudgetError: the budget is under the floor.
        OverBudgetError: no plan that was built stayed within it.
    """
    fingerprint = ready.bench.fingerprint()
    key = {**_reasons(ready), "budget_ms": float(f"{budget_ms / ready.drift:.9g}")}
    decided = ready.store.decision(fingerprint, key)
    if decided is None:
        decided = _refined(ready, budget_ms, progress)
        ready.store.decide(fingerprint, key, decided)
    else:
        progress.say("the plan is that of an earlier run with the same network, data, settings and budget")
    networks = [_as_now(ready, one) for one in decided.get("networks", ())]
    return {**_as_now(ready, decided), "networks": networks}


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
        "criterion": job.criterion,
        "seed": job.seed,
        "allow_inexact": job.allow_inexact,
        "align": job.align,
        "lock": list(job.lock),
        "rounds": job.rounds,
        "version": version("edgeprune"),
    }


def _refined(ready: Prepared, budget_ms: float, progress: Progress) -> dict[str, Any]:
    """Close the loop; return what it chose, its times where the dense network takes what the table says."""
    refined = refine(
        ready.choice,
        ready.table,
        ready.blueprint,
        ready.bench,
        ready.store,
        budget_ms / ready.drift,
        rounds=ready.job.rounds,
        progress=progress,
    )
    ready.table = refined.table
    if refined.chosen is None:
        fastest = min(one.measured_ms for one in refined.rounds)
        raise OverBudgetError(
            f"after {refined.sessions} rounds the fastest network took {format_ms(fastest * ready.drift)}, "
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
        "solver": {"gap": chosen.solution.gap, "seconds": chosen.solution.seconds},
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
