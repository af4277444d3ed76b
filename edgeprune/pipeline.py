"""The main flow: from a trained network and a number of milliseconds to a verified bundle.

1. load      the network and its data                       tracing, artifacts.subject
2. trace     the network into channel groups                tracing, graph.trace
3. measure   what every layer costs on the device           prepare, latency.profile
4. score     the channels                                   prepare, scoring, pruning.importance
5. choose    the widths; build, measure, until they fit     decision, budget.refine
6. cut       the network, and refit what is left            cutting, pruning.slim, pruning.compensate
7. recover   its accuracy                                   cutting, training.loop
8. export    ONNX and the engine                            shipping, artifacts.onnx
9. verify    numerics, accuracy, latency                    shipping, verification

Beside them: `precision` tries the steps in every precision for `--precision auto`, `outlook` says beforehand what is to
be done, `request` keeps what was asked for, `documents` and `evidence` hold what came of it. `teach` trains, and
`diagnosis` is the doctor; `replay` does all this again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgeprune.artifacts.contents import read_manifest, write_manifest
from edgeprune.artifacts.subject import Subject
from edgeprune.artifacts.workspace import Workspace, reserved
from edgeprune.budget.explain import groups_of
from edgeprune.budget.strategies import search
from edgeprune.cutting import Attempt, attempt
from edgeprune.decision import Decision, decide, foretold, promised
from edgeprune.diagnosis import cleaning_document, doctor_document
from edgeprune.documents import (
    check_document,
    export_document,
    planned_document,
    plans_document,
    profile_document,
    tables_document,
    verify_document,
)
from edgeprune.errors import BudgetError, OverBudgetError, TableError
from edgeprune.evidence import evidence
from edgeprune.job import AUTO, Job, default_out
from edgeprune.latency.bench import open_bench
from edgeprune.latency.explain import explained
from edgeprune.latency.sharing import export_tables, import_tables
from edgeprune.latency.store import TableStore
from edgeprune.latency.trust import check_table
from edgeprune.outlook import announcement
from edgeprune.precision import ChosenPrecision, choose_precision
from edgeprune.prepare import Baseline, Prepared, prepare
from edgeprune.progress import SILENT, Progress
from edgeprune.records import write_json
from edgeprune.report.facts import EVIDENCE, PAGE
from edgeprune.report.outcome import meaning_of
from edgeprune.report.pictures import table_pictures
from edgeprune.report.publish import publish
from edgeprune.report.text import print_result
from edgeprune.request import input_digests, kept_request
from edgeprune.shipping import versions
from edgeprune.targets.target import find_target
from edgeprune.teach import teach
from edgeprune.tracing import traced
from edgeprune.training.loop import evaluate
from edgeprune.trainjob import TrainJob
from edgeprune.units import LatencyBudget
from edgeprune.verification.onboard import read_verdict
from edgeprune.verification.recheck import recheck, recheck_of
from edgeprune.verification.verdict import Verdict, judge

TIGHTEN = 0.97
"""Factor by which the budget shrinks for the next attempt when the shipped engine was measured over it."""


@dataclass(frozen=True)
class Result:
    """What a verb ended with: the object that `--json` prints, and the exit code."""

    content: Mapping[str, Any]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object of the interface."""
        return dict(self.content)

    def __str__(self) -> str:
        """Return it as the command line prints it for a person."""
        stream = io.StringIO()
        print_result(self.content, stream)
        return stream.getvalue()


def export(job: Job, progress: Progress = SILENT, *, subject: Subject | None = None) -> Result:
    """Do the main job: choose widths, cut, recover, export and verify; write the bundle.

    Raises:
        EdgePruneError: bad input, a missing device, a budget under the floor ...
    """
    assert job.latency is not None, "the command line sees to it"
    out = job.out or default_out(job.model, job.target)
    with nullcontext() if job.dry_run else reserved(out):
        return _exported(job, out, progress, subject)


def _exported(job: Job, out: Path, progress: Progress, subject: Subject | None) -> Result:
    given = _with_precision(job, out, progress, subject) if job.precision == AUTO else ChosenPrecision(job, subject)
    with prepare(given.job, progress, given.subject, scores=given.scores, without_device=True) as ready:  # 1 to 4
        strategy = search(ready.choice, ready.table)
        (solution,) = foretold(ready, [ready.budget], strategy)  # 5, by the table alone
        if isinstance(solution, BudgetError):
            raise solution
        planned = planned_document(ready, solution, strategy.fastest())
        precision = {"precision": given.to_json()} if given.trials else {}
        progress.say(announcement(ready, planned, out))
        if job.dry_run:
            return Result({**planned, **precision})
        request = kept_request(job, ready.subject)
        with Workspace(out, request, resume=job.resume, force=job.force) as work:
            if given.trials:
                work.once("precision", given.to_json)
            presence = "baseline-by-table" if ready.absence else "baseline"  # a resumed run may find the device there
            baseline = Baseline.from_json(work.once(presence, lambda: _baseline(ready, progress).to_json()))
            ready.dense = baseline.dense  # one scale of milliseconds for the whole run, resumed or not
            if ready.absence:
                floor_ms = planned["latency_ms"]["floor"]
                promise = work.once("plan", lambda: promised(ready, solution, floor_ms).to_json())
                attempts = [attempt(ready, Decision.from_json(promise), work, 1, progress)]  # 6 to 9
            else:
                attempts = _attempts_until_it_fits(ready, baseline, work, progress)  # 5 to 9
            bundle = work.path("bundle")
            verdict = _judged(ready, baseline, attempts[-1])
            document = precision | export_document(ready, out, baseline, attempts, verdict)
            write_json(bundle / "evidence.json", EVIDENCE, evidence(ready, attempts, bundle))
            write_manifest(
                bundle,
                {
                    "source": ready.subject.source(),
                    "job": request,
                    "inputs": input_digests(job),
                    "versions": versions(),
                    "result": document,
                },
            )
            publish([bundle], bundle / PAGE)
            work.finish(bundle)
    return Result(document, verdict.exit_code)


def train(job: TrainJob, progress: Progress = SILENT) -> Result:
    """Train a network so that it can be pruned, and write the checkpoint.

    Raises:
        EdgePruneError: bad input, a cost that can't be reached.
    """
    return Result(teach(job, progress))


def plan(job: Job, progress: Progress = SILENT, budgets: Sequence[LatencyBudget] = (), explain: str = "") -> Result:
    """Plan for a ladder of budgets by the table alone, without cutting, training or measuring more than it lacks.

    Args:
        job: the network and its target.
        progress: where to show it.
        budgets: the rungs.
        explain: a module whose width is explained on every rung; empty for none.

    Raises:
        BudgetError: not one of the budgets can be reached; one that can't does not hide the others.
    """
    checked = partial(groups_of, module=explain) if explain else None
    with prepare(job, progress, measure=False, without_device=True, inspect=checked) as ready:
        with ready.stopwatch.timed("plan"):
            strategy = search(ready.choice, ready.table)
            rungs = list(zip(budgets, foretold(ready, budgets, strategy), strict=True))
            failed = [(budget, error) for budget, error in rungs if isinstance(error, BudgetError)]
            if failed and len(failed) == len(rungs):
                raise max(failed, key=lambda rung: rung[0].of(ready.dense_ms))[1]
            document = plans_document(ready, rungs, strategy.fastest(), explain)
        return Result({**document, "steps": ready.stopwatch.rows})


def profile(job: Job, progress: Progress = SILENT, explain: str = "") -> Result:
    """Measure the latency table that a network needs.

    Args:
        job: the network and its target.
        progress: where to show it.
        explain: a module whose staircase is shown, and drawn beside the table; empty for none.

    Raises:
        InputError: no such module has channels; found before anything is measured.
    """
    checked = partial(groups_of, module=explain) if explain else None
    with prepare(job, progress, inspect=checked) as ready:
        document = profile_document(ready)
        if not explain:
            return Result(document)
        layer = explained(ready.table, ready.graph.layer_of(explain), ready.drift)
        folder = ready.store.folder(ready.bench.fingerprint()) / "report" / ready.table.network
        pictures = table_pictures(folder, layer, ready.table.held_out)
        return Result({**document, "explain": layer, "pictures": [str(path) for path in pictures]})


def check(job: Job, progress: Progress = SILENT) -> Result:
    """Time a few networks of the stored table again, and say whether it can be trusted; exit code 8 if not."""
    with traced(job, progress) as found:
        bench, store = found.benches.first, TableStore()
        with progress.step("checking the latency table"):
            trust = check_table(found.blueprint, bench, store, progress)
        document = check_document(job, trust, bench.fingerprint(), store)
    return Result(document, 0 if trust.usable else TableError.exit_code)


def share(folder: Path, *, take_in: bool = False, target: str | None = None) -> Result:
    """Write the stored tables, or those of one target's runtime, into a folder; or take in those of a folder."""
    store = TableStore()
    if take_in:
        return Result(tables_document(folder, "imported", import_tables(store, folder)))
    runtime = find_target(target).runtime if target else None
    return Result(tables_document(folder, "exported", export_tables(store, folder, runtime)))


def verify(
    bundle: Path,
    device: str = "local",
    progress: Progress = SILENT,
    verdict: Path | None = None,
    data: str | None = None,
    allow_unverified: bool = False,
) -> Result:
    """Check a bundle again: the files' hashes, numerics, accuracy and latency.

    Args:
        bundle: the folder.
        device: where to check it.
        progress: where to show it.
        verdict: a file that the bundle's own `verify.py` wrote; then that is what is judged, and nothing is run.
        data: where the images are now that the bundle was made with; None looks where they were.
        allow_unverified: what can't be verified is a success.

    Raises:
        InputError: not a bundle, or one that was changed; or a verdict of another one, or other data.
    """
    manifest = read_manifest(bundle)
    job, before = manifest["job"], manifest["result"]
    if verdict is not None:
        checked = recheck_of(read_verdict(verdict, bundle), manifest, allow_unverified=allow_unverified)
        return Result(verify_document(bundle, before, checked), checked.verdict.exit_code)
    fingerprint = before["fingerprint"]
    progress.say(meaning_of(before))
    with open_bench(
        job["target"],
        device=device,
        precision=fingerprint["precision"],
        threads=int(fingerprint["threads"]),
        progress=progress,
    ) as bench:
        checked = recheck(bundle, manifest, bench, progress, data=data, allow_unverified=allow_unverified)
    return Result(verify_document(bundle, before, checked), checked.verdict.exit_code)


def doctor(target: str | None, device: str = "local", progress: Progress = SILENT, clean: bool = False) -> Result:
    """Say what this machine or that device has, and what would mend what is missing; or only clean up there."""
    return Result(cleaning_document(device, progress) if clean else doctor_document(target, device, progress))


def _with_precision(job: Job, out: Path, progress: Progress, subject: Subject | None) -> ChosenPrecision:
    """Return the job in the precision of the run that is resumed, where it had one; else try them all."""
    before = Workspace.left(out, "precision") if job.resume else None
    return ChosenPrecision.of(job, subject, before) if before is not None else choose_precision(job, progress, subject)


def _baseline(ready: Prepared, progress: Progress) -> Baseline:
    data = ready.subject.data
    accuracy = evaluate(ready.subject.model, data, progress=progress) if data is not None else None
    return Baseline(ready.dense, ready.dense_ms, ready.budget.of(ready.dense_ms), accuracy)


def _attempts_until_it_fits(ready: Prepared, baseline: Baseline, work: Workspace, progress: Progress) -> list[Attempt]:
    """Choose, cut, recover and export until the engine is measured within the budget; the last one is what is shipped.

    All choosing together measures no more than the job's rounds.

    Raises:
        BudgetError: the budget is under the floor.
        OverBudgetError: no plan that was built stayed within it.
    """
    attempts: list[Attempt] = []
    left = ready.job.rounds
    while left > 0:
        tightened = TIGHTEN ** len(attempts)
        if attempts:
            progress.say(f"measured over the budget: planning again for {tightened:.0%} of it")
        number, aim_ms = len(attempts) + 1, baseline.budget_ms * tightened
        try:
            with ready.stopwatch.timed("choose"):  # 5
                decided = work.once(f"plan-{number}", lambda: decide(ready, aim_ms, progress, left).to_json())  # noqa: B023
        except (BudgetError, OverBudgetError) as error:
            if not attempts:
                raise
            progress.say(f"shipping the network before, although it is over the budget: {error.message}")
            break
        attempts.append(attempt(ready, Decision.from_json(decided), work, number, progress))  # 6 to 9
        left -= attempts[-1].decision.rounds
        measured = attempts[-1].shipped.measured
        assert measured is not None, "the device is there"
        if measured.median_ms <= baseline.budget_ms or not measured.trusted:
            break
        if left <= 0:
            progress.say(
                f"measured over the budget, and all {ready.job.rounds} measurements are used up; --rounds allows more"
            )
    return attempts


def _judged(ready: Prepared, baseline: Baseline, last: Attempt) -> Verdict:
    measured, job, absence = last.shipped.measured, ready.job, ready.absence
    return judge(
        budget_ms=baseline.budget_ms,
        measured_ms=measured.median_ms if measured else None,
        trusted=measured is not None and measured.trusted,
        distrust=measured.reason if measured else absence.message if absence else "",
        numerics=last.shipped.numerics,
        precision=ready.bench.settings.precision,
        dense_accuracy=baseline.accuracy,
        engine_accuracy=last.shipped.accuracy,
        max_drop=None if job.max_drop is None else job.max_drop / 100,
        allow_unverified=job.allow_unverified,
        float_accuracy=last.accuracy,
        device=job.devices[0],
        untrained=ready.subject.untrained,
    )
