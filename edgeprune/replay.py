"""A bundle made again from its manifest, and what came out otherwise; and two bundles compared."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeprune.errors import InputError, NumericsError, TableError
from edgeprune.pipeline import Result, export
from edgeprune.progress import SILENT, Progress
from edgeprune.report.differences import Difference, changed_inputs, differences
from edgeprune.report.documents import diff_document
from edgeprune.report.facts import Facts, read_facts
from edgeprune.request import input_digests, job_of
from edgeprune.usercode import is_function_name, path_of

_CODES = {"input": InputError.exit_code, "setting": InputError.exit_code, "fingerprint": TableError.exit_code}


def replay(bundle: Path, out: Path | None = None, progress: Progress = SILENT) -> Result:
    """Run the export that made a bundle again, and say what differs.

    Args:
        bundle: the folder; left alone.
        out: where the new bundle goes; None keeps none.
        progress: where to show it.

    Returns:
        The differences. The exit code is that of the new bundle where it ended otherwise than the first, and not with
        0; else 0 without differences, 2 where an input is another one, 8 where the device is, 7 where the result is.

    Raises:
        EdgePruneError: what an export may end with; an input that is gone; a bundle made from Python objects.
    """
    before = read_facts(bundle)
    with tempfile.TemporaryDirectory(prefix="edgeprune-replay-") as scratch:
        made = out or Path(scratch) / "bundle"
        job = job_of(before.manifest, made)
        _refuse_code_within(bundle, (job.model, job.data))
        changed = changed_inputs(before, input_digests(job))
        _refuse_gone(changed)
        for one in changed:
            progress.say(f"{one.name} is not the file that the bundle was made from")
        result = export(replace(job.checked(), allow_unverified=before.result["status"] == "unverified"), progress)
        after = read_facts(made)
        found = differences(before, after)
        return Result(diff_document("replay", bundle, out, found, before, after), _code(found, before, result))


def _refuse_code_within(bundle: Path, named: Sequence[str | None]) -> None:
    """Refuse to run code that came with the bundle: whoever made the bundle would choose what runs here."""
    for text in named:
        if text and is_function_name(text) and path_of(text).resolve().is_relative_to(bundle.resolve()):
            raise InputError(
                f"{text}, which the bundle was made from, lies in the bundle, and what comes with a bundle is not run",
                remedy="run this in the folder in which the export ran",
            )


def _refuse_gone(changed: Sequence[Difference]) -> None:
    gone = [one.name for one in changed if one.after is None]
    if gone:
        raise InputError(
            f"{gone[0]}, which the bundle was made from, is not there",
            remedy="run this in the folder in which the export ran, or put the file back",
        )


def _code(found: Sequence[Difference], before: Facts, result: Result) -> int:
    if result.exit_code not in (0, before.result.get("exit_code", 0)):
        return result.exit_code
    codes = [_CODES.get(one.kind, NumericsError.exit_code) for one in found]
    return next((code for code in (InputError.exit_code, TableError.exit_code) if code in codes), max(codes, default=0))
