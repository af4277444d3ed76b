"""Which widths: foretold by the table alone, or decided once on the device and remembered beside the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

from edgeprune.budget.amounts import WEIGHT_BYTES
from edgeprune.budget.floor import best_or_why_not
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


@dataclass(frozen=True)
class Decision:
    """A plan, and how it was come by.

    Attributes:
        plan: the widths, as `WidthPlan.to_json` has them.
        predicted_ms: of the plan, before its network was measured.
        measured_ms: of the plan's network; None where the device can't be reached.
        floor_ms: the fastest that any plan is predicted to be.
        rounds: how many measurements it took.
        solver: `edgeprune.export/1`'s "solver".
        networks: what each of the networks that were measured was predicted and found to take, as JSON.
    """

    plan: Mapping[str, Any]
    predicted_ms: float
    measured_ms: float | None
    floor_ms: float
    rounds: int
    solver: Mapping[str, Any]
    networks: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """Return what `to_json` told; more than that is passed over."""
        return cls(**{name: content[name] for name in cls.__dataclass_fields__ if name in content})

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def scaled(self, factor: float) -> Decision:
        """Return the same with all its times `factor` times as long."""
        times = ("predicted_ms", "measured_ms")
        return replace(
            self,
            predicted_ms=self.predicted_ms * factor,
            measured_ms=None if self.measured_ms is None else self.measured_ms * factor,
            floor_ms=self.floor_ms * factor,
            networks=[{**one, **{name: one[name] * factor for name in times}} for one in self.networks],
        )


def foretold(ready: Prepared, budgets: Sequence[LatencyBudget], strategy: Search) -> list[Solution | BudgetError]:
    """Return for each budget the best plan that a strategy finds by the table, or why there is none."""
    plans: list[Solution | BudgetError] = []
    for budget in budgets:
        budget_us = ready.table_us(budget)
        try:
            plans.append(best_or_why_not(strategy, ready.table, budget_us, partial(ways_out, ready), ready.drift))
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


def promised(ready: Prepared, solution: Solution, floor_ms: float) -> Decision:
    """Return what `decide` does where the device can't be reached: the best plan of its table, and nothing measured."""
    plan = ready.choice.plan(solution.widths)
    predicted_ms = ready.table.predict(plan.widths).ms
    return Decision(plan.to_json(), predicted_ms, None, floor_ms, rounds=0, solver=certificate(solution))


def decide(ready: Prepared, budget_ms: float, progress: Progress, rounds: int | None = None) -> Decision:
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
    known = ready.store.decision(fingerprint, key)
    if known is not None and (not absolute or _still_fits(known, known["measured_ms"] * ready.drift / budget_ms)):
        progress.say("the plan is that of an earlier run with the same network, data, settings and budget")
        return Decision.from_json(known).scaled(ready.drift)
    found = _refined(ready, budget_ms, rounds, progress)
    now = found.scaled(ready.drift)
    assert now.measured_ms is not None, "the loop measures"
    ready.store.decide(fingerprint, key, {**found.to_json(), "used": now.measured_ms / budget_ms})
    return now


def _still_fits(known: Mapping[str, Any], used: float) -> bool:
    """Whether a plan that uses this share of its budget now is within it, and uses about as much as could be used."""
    then = float(known.get("used", 1.0))
    return (FILLS if then >= FILLS else FILLS * then) <= used <= 1


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


def _refined(ready: Prepared, budget_ms: float, rounds: int, progress: Progress) -> Decision:
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
        fastest = min(one.measured_ms for one in refined.networks)
        raise OverBudgetError(
            f"the fastest of {len(refined.networks)} networks that were built took {format_ms(fastest * ready.drift)}, "
            f"the budget is {format_ms(budget_ms)}",
            remedy="allow more time, or more --rounds",
        )
    chosen = refined.chosen
    return Decision(
        chosen.plan.to_json(),
        chosen.predicted_ms,
        chosen.measured_ms,
        refined.floor_ms,
        rounds=refined.measurements,
        solver=certificate(chosen.solution),
        networks=[
            {
                "predicted_ms": one.predicted_ms,
                "measured_ms": one.measured_ms,
                "sessions": one.times,
                "macs": one.plan.macs,
                "chosen": one is chosen,
            }
            for one in refined.networks
        ],
    )
