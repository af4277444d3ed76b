"""The objects that `--json` prints; what a person reads is made from the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune.budget.explain import explain_width
from edgeprune.budget.floor import floor_parts
from edgeprune.budget.solve import Solution
from edgeprune.cutting import Attempt
from edgeprune.decision import certificate
from edgeprune.errors import BudgetError
from edgeprune.graph.plan import WidthPlan
from edgeprune.job import Job
from edgeprune.latency.rule import FINAL, LONG, SETTLING, SURVEY
from edgeprune.latency.sharing import SharedTable
from edgeprune.latency.store import TableStore
from edgeprune.latency.trust import CHECK, Trust
from edgeprune.prepare import Baseline, Prepared
from edgeprune.report.facts import PAGE
from edgeprune.targets.target import Fingerprint
from edgeprune.units import LatencyBudget
from edgeprune.verification.recheck import Recheck
from edgeprune.verification.verdict import Verdict


def export_document(
    ready: Prepared,
    out: Path,
    baseline: Baseline,
    attempts: Sequence[Attempt],
    verdict: Verdict,
) -> dict[str, Any]:
    """Return `edgeprune.export/1`; the last of `attempts` is what is shipped."""
    last = attempts[-1]
    decision, shipped, measured = last.decision, last.shipped, last.shipped.measured
    return {
        "schema": "edgeprune.export/1",
        "status": verdict.status,
        **_device(ready),
        "bundle": str(out),
        "report": str(out / PAGE),
        "latency_ms": {
            "budget": baseline.budget_ms,
            "dense": baseline.dense_ms,
            "predicted": decision.predicted_ms,
            "measured": measured.median_ms if measured else None,
            "p90": measured.p90_ms if measured else None,
            "floor": decision.floor_ms,
        },
        "band_ms": list(ready.table.band(decision.predicted_ms)),
        **_grounds(ready),
        "repetition": measured.repetition(FINAL) if measured else None,
        "rounds": sum(one.decision.rounds for one in attempts),
        "accuracy": {"dense": baseline.accuracy, "pruned": last.accuracy, "engine": shipped.accuracy},
        **_sizes(ready, last.plan),
        "numerics": shipped.numerics,
        "engine": shipped.report,
        "quantization": shipped.quantization,
        "plan": _groups(ready, last.plan.widths),
        "solver": decision.solver,
        "steps": ready.stopwatch.rows,
        "reasons": list(verdict.reasons),
        "exit_code": verdict.exit_code,
    }


def planned_document(ready: Prepared, solution: Solution, lowest: Solution) -> dict[str, Any]:
    """Return `edgeprune.export/1` of a dry run: status `planned`, nothing measured but the dense network."""
    plan = ready.choice.plan(solution.widths)
    dense_ms = ready.dense_ms
    predicted = ready.table.predict(plan.widths)
    return {
        "schema": "edgeprune.export/1",
        "status": "planned",
        **_device(ready),
        "bundle": None,
        "latency_ms": {
            "budget": ready.budget.of(dense_ms),
            "dense": dense_ms,
            "predicted": predicted.ms * ready.drift,
            "measured": None,
            "p90": None,
            "floor": ready.now_ms(lowest.cost_us),
        },
        "band_ms": [predicted.low_ms * ready.drift, predicted.high_ms * ready.drift],
        **_grounds(ready),
        "rounds": 0,
        "max_rounds": ready.job.rounds,
        "accuracy": {"dense": None, "pruned": None, "engine": None},
        **_sizes(ready, plan),
        "numerics": {"slim_vs_masked": None, "onnx_vs_torch": None, "engine_vs_torch": None},
        "plan": _groups(ready, plan.widths),
        "solver": certificate(solution),
        "steps": ready.stopwatch.rows,
    }


def plans_document(
    ready: Prepared,
    rungs: Sequence[tuple[LatencyBudget, Solution | BudgetError]],
    lowest: Solution,
    explain: str = "",
) -> dict[str, Any]:
    """Return `edgeprune.plans/1`: one entry a budget; those out of reach have null predictions and say why."""
    return {
        "schema": "edgeprune.plans/1",
        **_device(ready),
        "strategy": ready.choice.strategy,
        "limits": dict(ready.choice.limits),
        "latency_ms": {"dense": ready.dense_ms, "floor": ready.now_ms(lowest.cost_us)},
        "floor_ms": floor_parts(ready.table, lowest, ready.drift).to_json(),
        "plans": [_rung(ready, budget, solution, explain) for budget, solution in rungs],
        **_grounds(ready),
    }


def profile_document(ready: Prepared) -> dict[str, Any]:
    """Return `edgeprune.profile/1`: the dense network's layers, and how the table knows them."""
    layers = ready.table.layers(WidthPlan.dense(ready.graph).widths)
    return {
        "schema": "edgeprune.profile/1",
        **_device(ready),
        "latency_ms": {"dense": ready.dense_ms},
        "inserted": ready.table.dense.inserted_us / 1000 / ready.table.dense.engine_ms,
        "unexplained": ready.table.fixed_us / 1000 / ready.table.dense.engine_ms,
        "networks": len(ready.table.records),
        "error": ready.table.error,
        "rows": dict(Counter(source for _, _, source in layers)),
        "layers": [
            {"name": row.name, "kind": row.op, "ms": ready.now_ms(us), "source": source} for row, us, source in layers
        ],
        "table": str(ready.store.folder(ready.bench.fingerprint())),
        **_grounds(ready),
        "table_repetition": (SETTLING if ready.bench.opens_quickly else SURVEY).sentence(),
        "steps": ready.stopwatch.rows,
    }


def _device(ready: Prepared) -> dict[str, Any]:
    return {"target": ready.job.target, "fingerprint": ready.bench.fingerprint().to_json()}


def _grounds(ready: Prepared) -> dict[str, Any]:
    """Return what the table's check found and how the dense network was measured; None for what was not done."""
    return {
        "table_check": ready.trust.to_json() if ready.trust else None,
        "repetition": ready.dense.repetition(LONG) if ready.dense else None,
    }


def check_document(job: Job, trust: Trust, fingerprint: Fingerprint, store: TableStore) -> dict[str, Any]:
    """Return `edgeprune.check/1`: whether a stored table can be trusted, and by what."""
    return {
        "schema": "edgeprune.check/1",
        "target": job.target,
        "fingerprint": fingerprint.to_json(),
        **trust.to_json(),
        "usable": trust.usable,
        "repetition": CHECK.sentence(),
        "table": str(store.folder(fingerprint)) if store.folder(fingerprint).exists() else None,
    }


def tables_document(folder: Path, done: str, tables: Sequence[SharedTable]) -> dict[str, Any]:
    """Return `edgeprune.tables/1`: the tables that were `exported` or `imported`."""
    return {
        "schema": "edgeprune.tables/1",
        "folder": str(folder),
        "done": done,
        "tables": [
            {"fingerprint": one.fingerprint.to_json(), "networks": one.networks, "new": one.new} for one in tables
        ],
    }


def verify_document(bundle: Path, before: Mapping[str, Any], checked: Recheck) -> dict[str, Any]:
    """Return `edgeprune.verify/1`."""
    return {
        "schema": "edgeprune.verify/1",
        "status": checked.verdict.status,
        "target": before["target"],
        "fingerprint": checked.fingerprint,
        "bundle": str(bundle),
        "latency_ms": {
            "budget": before["latency_ms"]["budget"],
            "dense": before["latency_ms"]["dense"],
            "at_export": before["latency_ms"]["measured"],
            "measured": checked.measured.median_ms,
            "p90": checked.measured.p90_ms,
        },
        "repetition": checked.measured.repetition(FINAL),
        "accuracy": {"dense": before["accuracy"]["dense"], "engine": checked.accuracy},
        "numerics": checked.numerics,
        "engine": dict(checked.report),
        "reasons": list(checked.verdict.reasons),
        "exit_code": checked.verdict.exit_code,
    }


def _rung(ready: Prepared, budget: LatencyBudget, solution: Solution | BudgetError, explain: str) -> dict[str, Any]:
    found: dict[str, Any] = {"asked": str(budget), "budget": budget.of(ready.dense_ms)}
    if isinstance(solution, BudgetError):
        unknown = dict.fromkeys(("predicted", "band", "coverage", "value", "kept", "macs", "params", "plan", "solver"))
        return {**found, **unknown, "reason": solution.message, "remedy": solution.remedy}
    plan = ready.choice.plan(solution.widths)
    predicted = ready.table.predict(plan.widths)
    whole = ready.choice.value(WidthPlan.dense(ready.graph).widths)
    found |= {
        "predicted": predicted.ms * ready.drift,
        "band": [predicted.low_ms * ready.drift, predicted.high_ms * ready.drift],
        "coverage": predicted.coverage,
        "value": solution.value,
        "kept": solution.value / whole if whole > 0 else None,
        **_sizes(ready, plan),
        "plan": _groups(ready, plan.widths),
        "solver": certificate(solution),
    }
    if explain:
        found["explain"] = explain_width(
            ready.choice, ready.table, solution, ready.table_us(budget), explain, ready.drift
        )
    return found


def _sizes(ready: Prepared, plan: WidthPlan) -> dict[str, Any]:
    return {
        "macs": {"dense": ready.graph.macs(), "pruned": plan.macs},
        "params": {"dense": ready.graph.params(), "pruned": plan.params},
    }


def _groups(ready: Prepared, widths: Mapping[str, int]) -> dict[str, Any]:
    return {
        group.name: {"width": widths[group.name], "of": group.channels, "modules": list(group.modules)}
        for group in ready.graph
    }
