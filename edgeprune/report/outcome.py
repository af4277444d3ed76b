"""How an export or a verification ended, and what results have in common, as lines for a person.

A value that is null in the document is left out, never shown as a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.units import format_count, format_ms, format_percent, format_seconds

LATENCY_MEANS = "Latency means: batch 1, host to host, median, on the device, without a profiler, after warm-up."
LATENCY_MEANS_WITHOUT_COPIES = (
    "Latency means: batch 1, inputs and outputs in the GPU's memory, by the GPU's clock, median, without a profiler,"
    " after warm-up."
)
UNVERIFIED = "PREDICTED, NOT VERIFIED"
ACCURACIES = ("dense", "pruned", "engine")
WIDTHS_SHOWN = 12
_MODULES_SHOWN = 3
_WARNING = "bold yellow"

Document = Mapping[str, Any]
Lines = Iterable[RenderableType]


def latency_means(*, copies: bool) -> str:
    """Return what a latency means where copies to and from an accelerator are in it, or are not."""
    return LATENCY_MEANS if copies else LATENCY_MEANS_WITHOUT_COPIES


def meaning_of(document: Document) -> str:
    """Return what the latencies of a result mean."""
    return latency_means(copies=document.get("fingerprint", {}).get("copies") != "out")


def verdict(document: Document) -> Iterator[Text]:
    """Yield how an export or a verification ended: one sentence, and a line for each thing that is wrong or to know."""
    latency = document.get("latency_ms", {})
    budget, predicted, measured = (latency.get(key) for key in ("budget", "predicted", "measured"))
    reasons = [reason.removeprefix(f"{UNVERIFIED}: ") for reason in document.get("reasons", ())]
    status = document.get("status")
    if status == "met":
        used = f", {format_percent(measured / budget)} of the budget of {format_ms(budget)}"
        yield Text(
            f"Met: {format_ms(measured)} measured on {document['target']}{used}.",
            style=_WARNING if reasons else "bold green",
        )
    elif status == "missed":
        yield Text(f"Missed on {document['target']}.", style="bold red")
    elif predicted is None and measured is not None:
        yield Text(f"NOT VERIFIED: {format_ms(measured)} measured for a budget of {format_ms(budget)}.", style=_WARNING)
    elif status == "planned":
        yield Text(f"Planned: {_predicted(predicted, budget)}; no training, and no bundle.", style="bold")
    else:
        yield Text(f"{UNVERIFIED}: {_predicted(predicted, budget)}.", style=_WARNING)
    for reason in reasons:
        yield Text(f"- {reason}", style="yellow")


def span(low_ms: float, high_ms: float) -> str:
    """Return "9 to 10 ms": a unit that both share once."""
    low, high = format_ms(low_ms), format_ms(high_ms)
    unit = f" {high.rpartition(' ')[2]}"
    return f"{low.removesuffix(unit)} to {high}"


def _predicted(predicted: float | None, budget: float | None) -> str:
    if predicted is None:
        return "no latency is known"
    return f"{format_ms(predicted)} predicted" + (f" for a budget of {format_ms(budget)}" if budget else "")


def outcome(document: Document, verbose: bool) -> Lines:
    """Yield what an export or a verification came to."""
    yield from verdict(document)
    if document.get("precision"):
        yield Text(f"Precision: {document['precision']['why']}.")
    yield _before_and_after(document)
    yield from _latency_line(document)
    yield from _accuracy_line(document)
    yield from _numerics_line(document)
    yield from _engine_line(document)
    yield from _quantization_line(document)
    if document.get("plan"):
        yield from widths(document["plan"], None if verbose else WIDTHS_SHOWN)
    yield from _solver_line(document)
    if verbose:
        yield from _steps(document)
    if document.get("bundle"):
        yield Text(f"Bundle: {document['bundle']}")
    if document.get("report"):
        yield Text(f"Report: {document['report']}")
    yield from repetition(document)
    yield Text(meaning_of(document), style="dim")


def _before_and_after(document: Document) -> Table:
    """Return dense next to pruned: latency, accuracy, MACs, parameters."""
    table = Table("", "dense", "pruned", "change", box=SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    latency, accuracy = document.get("latency_ms", {}), document.get("accuracy", {})
    after = latency.get("measured")
    if latency.get("at_export") is None:
        _add(table, "latency", latency.get("dense"), latency.get("predicted") if after is None else after, format_ms)
    else:  # the dense network was not measured at this moment
        _add(table, "latency, at export", latency.get("dense"), latency["at_export"], format_ms)
        _add(table, "latency, now", None, after, format_ms)
    if accuracy.get("dense") is not None:
        engine = accuracy.get("engine")
        last = accuracy.get("pruned") if engine is None else engine
        change = "" if last is None else f"{(last - accuracy['dense']) * 100:+.1f} points"
        table.add_row("accuracy", format_percent(accuracy["dense"]), or_blank(last, format_percent), change)
    _add(table, "MACs", *pair(document, "macs"), format_count)
    _add(table, "parameters", *pair(document, "params"), format_count)
    return table


def _add(table: Table, name: str, dense: Any, pruned: Any, form: Callable[[float], str]) -> None:
    if dense is None and pruned is None:
        return
    change = f"{(pruned / dense - 1) * 100:+.1f} %" if dense and pruned is not None else ""
    table.add_row(name, or_blank(dense, form), or_blank(pruned, form), change)


def pair(document: Document, key: str) -> tuple[Any, Any]:
    """Return a number of the dense network and of the pruned one; None for what is not known."""
    values = document.get(key, {})
    return values.get("dense"), values.get("pruned")


def or_blank(value: float | None, form: Callable[[float], str]) -> str:
    """Return a number as `form` writes it, and nothing for None."""
    return "" if value is None else form(value)


def _latency_line(document: Document) -> Lines:
    names = {
        "budget": "budget",
        "predicted": "predicted",
        "at_export": "at export",
        "measured": "measured",
        "p90": "90th percentile",
        "floor": "floor (no plan is faster)",
    }
    latency = document.get("latency_ms", {})
    notes = {"predicted": f" ({span(*document['band_ms'])})"} if document.get("band_ms") else {}
    parts = [
        f"{name} {format_ms(latency[key])}{notes.get(key, '')}"
        for key, name in names.items()
        if latency.get(key) is not None
    ]
    if document.get("rounds"):
        parts.append(f"{document['rounds']} round{'s' if document['rounds'] != 1 else ''}")
    if parts:
        yield Text("Latency: " + ", ".join(parts))


def _accuracy_line(document: Document) -> Lines:
    accuracy = document.get("accuracy", {})
    parts = [f"{key} {format_percent(accuracy[key])}" for key in ACCURACIES if accuracy.get(key) is not None]
    if parts:
        yield Text("Accuracy (top-1): " + ", ".join(parts))


def _numerics_line(document: Document) -> Lines:
    names = {
        "slim_vs_masked": "slim to masked",
        "onnx_vs_torch": "ONNX to torch",
        "engine_vs_torch": "engine to torch",
    }
    numerics = document.get("numerics", {})
    parts = [f"{name} {numerics[key]:.1e}" for key, name in names.items() if numerics.get(key) is not None]
    if parts:
        yield Text("Numerics (largest difference / largest output): " + ", ".join(parts))
    if parts and document.get("fingerprint", {}).get("precision") == "int8":
        yield Text("Engine to torch is what int8 costs, no error of arithmetic: accuracy judges it.", style="dim")


def _quantization_line(document: Document) -> Lines:
    made = document.get("quantization")
    if made:
        yield Text(f"Quantized by {made['by']}, on {made['images']} images of the {made['of']} (seed {made['seed']})")


def _engine_line(document: Document) -> Lines:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in document.get("engine", {}).items())
    if facts:
        yield Text(f"Engine: {facts}")


def widths(plan: Document, most: int | None) -> Lines:
    """Yield the groups' widths, the most narrowed first, at most `most` of them; then how many there are."""
    table = Table("group", "width", "of", "kept", "modules", box=SIMPLE_HEAD)
    for column in table.columns[1:4]:
        column.justify = "right"
    for column in table.columns[:4]:
        column.no_wrap = True
    order = sorted(plan.items(), key=lambda item: item[1]["width"] / item[1]["of"])
    narrowed = [(name, group) for name, group in order if group["width"] < group["of"]]
    for name, group in narrowed[:most]:
        kept = format_percent(group["width"] / group["of"])
        table.add_row(Text(name), str(group["width"]), str(group["of"]), kept, Text(_first(group["modules"])))
    if narrowed:
        yield table
    hidden = 0 if most is None else len(narrowed[most:])
    whole = len(order) - len(narrowed)
    notes = [f"{whole} kept whole"] * bool(whole) + [f"{hidden} not shown (--verbose shows all)"] * bool(hidden)
    yield Text("; ".join([f"Groups: {len(narrowed)} of {len(order)} narrowed", *notes]))


def _first(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    rest = len(names) - _MODULES_SHOWN
    return ", ".join(names[:_MODULES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _solver_line(document: Document) -> Lines:
    solver = document.get("solver") or {}
    if solver.get("gap") is not None:
        seconds = f", {format_seconds(solver['seconds'])}" if solver.get("seconds") is not None else ""
        near = f"within {solver['gap'] * 100:.2g} % of " if solver["gap"] else ""
        bounds = " within its round's bounds" if document.get("rounds") else ""
        yield Text(f"Solver: {near}the best plan{bounds}, by the table{seconds}{_held_by(solver)}")
    elif solver.get("binding"):
        yield Text(f"Solver: none, widths by another strategy{_held_by(solver)}")


def _held_by(solver: Document) -> str:
    """Return which limits a better plan would do without, where it is not the latency alone."""
    binding = solver.get("binding") or []
    return "" if list(binding) in ([], ["--latency"]) else f"; held back by {' and '.join(binding)}"


def _steps(document: Document) -> Lines:
    table = Table("step", "time", box=SIMPLE_HEAD)
    table.columns[1].justify = "right"
    for step in document.get("steps", ()):
        table.add_row(Text(step["name"]), format_seconds(step["seconds"]))
    if table.row_count:
        yield table


def repetition(document: Document) -> Lines:
    """Yield what was repeated how often, and what the check of the stored table found."""
    checked = document.get("table_check")
    if checked and checked["status"] != "missing":
        yield Text(f"Latency table, checked at the start: {checked['sentence']}")
    if document.get("repetition"):
        yield Text(f"Repetition: {document['repetition']}", style="dim")
    if document.get("table_repetition"):
        yield Text(f"Networks of the table: {document['table_repetition']}", style="dim")
