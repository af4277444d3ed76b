"""Results as text for a person, made from the very JSON that `--json` prints: the two cannot differ.

Every renderer takes a document and returns what rich prints. A value that is null in the document (no data, so no
accuracy; no device, so nothing measured) is left out, never shown as a number.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.report.reasons import width_reasons
from edgeprune.units import format_bytes, format_count, format_ms, format_percent, format_seconds

LATENCY_MEANS = "Latency means: batch 1, host to host, median, on the device, without a profiler, after warm-up."
LATENCY_MEANS_WITHOUT_COPIES = (
    "Latency means: batch 1, inputs and outputs in the GPU's memory, by the GPU's clock, median, without a profiler,"
    " after warm-up."
)
UNVERIFIED = "PREDICTED, NOT VERIFIED"
ACCURACIES = ("dense", "pruned", "engine")
WIDTHS_SHOWN = 12
_MODULES_SHOWN = 3
_PLAIN_WIDTH = 110
_DIGEST_SHOWN = 12

Document = Mapping[str, Any]
Lines = Iterable[RenderableType]


def print_result(document: Document, stream: TextIO, *, verbose: bool = False) -> None:
    """Print a result on `stream`; its schema says how. `verbose` leaves no row out."""
    console = Console(file=stream, highlight=False, width=_width(stream))
    kind = str(document.get("schema", "")).partition("/")[0]
    with console.capture() as captured:  # rich would end the process when nobody reads the stream
        for part in RENDERERS[kind](document, verbose):
            console.print(part, soft_wrap=isinstance(part, Text))
    stream.write(captured.get())


def latency_means(*, copies: bool) -> str:
    """Return what a latency means where copies to and from an accelerator are in it, or are not."""
    return LATENCY_MEANS if copies else LATENCY_MEANS_WITHOUT_COPIES


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
            style="bold yellow" if reasons else "bold green",
        )
    elif status == "missed":
        yield Text(f"Missed on {document['target']}.", style="bold red")
    elif status == "planned":
        yield Text(f"Planned: {_predicted(predicted, budget)}; nothing was trained or written.", style="bold")
    else:
        yield Text(f"{UNVERIFIED}: {_predicted(predicted, budget)}.", style="bold yellow")
    for reason in reasons:
        yield Text(f"- {reason}", style="yellow")


def _predicted(predicted: float | None, budget: float | None) -> str:
    if predicted is None:
        return "no latency is known"
    return f"{format_ms(predicted)} predicted" + (f" for a budget of {format_ms(budget)}" if budget else "")


def _export(document: Document, verbose: bool) -> Lines:
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
        yield from _widths(document["plan"], None if verbose else WIDTHS_SHOWN)
    yield from _solver_line(document)
    if verbose:
        yield from _steps(document)
    if document.get("bundle"):
        yield Text(f"Bundle: {document['bundle']}")
    if document.get("report"):
        yield Text(f"Report: {document['report']}")
    yield from _repetition(document)
    yield Text(latency_means(copies=document.get("fingerprint", {}).get("copies") != "out"), style="dim")


def _before_and_after(document: Document) -> Table:
    """Return dense next to pruned: latency, accuracy, MACs, parameters."""
    table = Table("", "dense", "pruned", "change", box=SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    latency, accuracy = document.get("latency_ms", {}), document.get("accuracy", {})
    after = latency.get("measured")
    _add(table, "latency", latency.get("dense"), latency.get("predicted") if after is None else after, format_ms)
    if accuracy.get("dense") is not None:
        engine = accuracy.get("engine")
        last = accuracy.get("pruned") if engine is None else engine
        change = "" if last is None else f"{(last - accuracy['dense']) * 100:+.1f} points"
        table.add_row("accuracy", format_percent(accuracy["dense"]), _or_blank(last, format_percent), change)
    _add(table, "MACs", *_pair(document, "macs"), format_count)
    _add(table, "parameters", *_pair(document, "params"), format_count)
    return table


def _add(table: Table, name: str, dense: Any, pruned: Any, form: Callable[[float], str]) -> None:
    if dense is None and pruned is None:
        return
    change = f"{(pruned / dense - 1) * 100:+.1f} %" if dense and pruned is not None else ""
    table.add_row(name, _or_blank(dense, form), _or_blank(pruned, form), change)


def _pair(document: Document, key: str) -> tuple[Any, Any]:
    values = document.get(key, {})
    return values.get("dense"), values.get("pruned")


def _or_blank(value: float | None, form: Callable[[float], str]) -> str:
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
    parts = [f"{name} {format_ms(latency[key])}" for key, name in names.items() if latency.get(key) is not None]
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


def _widths(plan: Document, most: int | None) -> Lines:
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
        yield Text(f"Solver: within {solver['gap'] * 100:.2g} % of the best possible plan{seconds}{_held_by(solver)}")
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


def _plans(document: Document, verbose: bool) -> Lines:
    """Render a ladder of plans: one row a budget, and the widths of each that can be reached."""
    latency, plans = document.get("latency_ms", {}), document["plans"]
    yield Text(
        f"Dense {format_ms(latency['dense'])} on {document['target']}, floor {format_ms(latency['floor'])} "
        f"(no plan is faster)."
    )
    if document.get("strategy", "latency") != "latency":
        yield Text(f"Strategy: {document['strategy']}")
    headings = ("budget", "predicted", "band", "value kept", "MACs", "parameters", "gap", "held by")
    table = Table(*headings, box=SIMPLE_HEAD)
    for column in table.columns[:-1]:
        column.justify = "right"
    for plan in plans:
        table.add_row(*_plan_row(plan))
    yield table
    for plan in plans:
        if plan.get("reason"):
            yield Text(f"{format_ms(plan['budget'])}: {plan['reason']}; {plan['remedy']}", style="yellow")
        if plan.get("explain"):
            whole = plan["value"] / plan["kept"] if plan["kept"] else None
            yield from width_reasons(plan, whole)
        elif plan.get("plan") and (verbose or len(plans) == 1):
            yield Text(f"Widths for {format_ms(plan['budget'])}", style="bold")
            yield from _widths(plan["plan"], None if verbose else WIDTHS_SHOWN)
    yield from _repetition(document)
    yield Text(latency_means(copies=document.get("fingerprint", {}).get("copies") != "out"), style="dim")


def _plan_row(plan: Document) -> tuple[str, ...]:
    budget = format_ms(plan["budget"])
    if plan.get("predicted") is None:
        return (budget, "out of reach")
    low_high, solver = plan.get("band"), plan.get("solver") or {}
    return (
        budget,
        format_ms(plan["predicted"]),
        f"{format_ms(low_high[0])} to {format_ms(low_high[1])}" if low_high else "",
        _or_blank(plan.get("kept"), format_percent),
        _or_blank(_pair(plan, "macs")[1], format_count),
        _or_blank(_pair(plan, "params")[1], format_count),
        _or_blank(solver.get("gap"), lambda value: f"{value * 100:.2g} %"),
        ", ".join(solver.get("binding", ())),
    )


def _profile(document: Document, verbose: bool) -> Lines:
    rows = ", ".join(f"{count} {source}" for source, count in document["rows"].items())
    yield Text(f"Latency table for {document['target']}: {rows}; from {document['networks']} networks measured.")
    if document.get("error") is not None:
        off = format_percent(document["error"])
        yield Text(f"Nine of ten networks left out of the table were predicted to within {off}.")
    latency = document.get("latency_ms", {})
    if latency.get("dense") is not None:
        yield Text(f"Dense network: {format_ms(latency['dense'])}")
    layers = sorted(document.get("layers", ()), key=lambda layer: -float(layer["ms"]))
    if layers:
        total = sum(layer["ms"] for layer in layers)
        table = Table("layer", "kind", "time", "share", box=SIMPLE_HEAD)
        table.columns[2].justify = table.columns[3].justify = "right"
        for layer in layers if verbose else layers[:WIDTHS_SHOWN]:
            share = format_percent(layer["ms"] / total) if total else ""
            table.add_row(Text(layer["name"]), Text(layer["kind"]), format_ms(layer["ms"]), share)
        yield table
        if len(layers) > WIDTHS_SHOWN and not verbose:
            yield Text(f"{len(layers) - WIDTHS_SHOWN} layers not shown (--verbose shows all)")
    if document.get("table"):
        yield Text(f"Kept in {document['table']}")
    yield from _repetition(document)
    yield Text(latency_means(copies=document.get("fingerprint", {}).get("copies") != "out"), style="dim")


def _repetition(document: Document) -> Lines:
    """Yield what was repeated how often, and what the check of the stored table found."""
    checked = document.get("table_check")
    if checked and checked["status"] != "missing":
        yield Text(f"Latency table, checked at the start: {checked['sentence']}")
    if document.get("repetition"):
        yield Text(f"Repetition: {document['repetition']}", style="dim")
    if document.get("table_repetition"):
        yield Text(f"Networks of the table: {document['table_repetition']}", style="dim")


def _check(document: Document, verbose: bool) -> Lines:
    style = "bold green" if document["usable"] else "bold red"
    yield Text(f"Latency table for {document['target']}: {document['sentence']}", style=style)
    for network in document["networks_ms"]:
        yield Text(f"- {format_ms(network['table'])} in the table, {format_ms(network['now'])} now")
    if document["networks_ms"]:
        yield Text(f"Repetition: {document['repetition']}", style="dim")
    yield Text(f"Kept in {document['table']}")


def _tables(document: Document, verbose: bool) -> Lines:
    table = Table("runtime", "version", "precision", "threads", "processor", "networks", "new", box=SIMPLE_HEAD)
    for one in document["tables"]:
        fingerprint = one["fingerprint"]
        names = ("runtime", "runtime_version", "precision", "threads")
        known = [Text(fingerprint.get(name, "")) for name in names]
        processor = Text(fingerprint.get("board") or fingerprint.get("cpu", ""))
        table.add_row(*known, processor, str(one["networks"]), str(one["new"]))
    yield table
    yield Text(f"{document['done'].capitalize()}: {document['folder']}")


def _train(document: Document, verbose: bool) -> Lines:
    accuracy = document["accuracy"]
    yield Text(
        f"Trained with {document['method']} for {document['epochs']} epochs: "
        f"accuracy {format_percent(accuracy['last'])} (best epoch {format_percent(accuracy['best'])}), "
        f"loss {document['loss']:.3f}, {format_seconds(document['seconds'])}.",
        style="bold green",
    )
    macs, params = document["macs"], document["params"]
    if macs["trained"] != macs["dense"]:
        yield Text(
            f"MACs {format_count(macs['dense'])} to {format_count(macs['trained'])}, "
            f"parameters {format_count(params['dense'])} to {format_count(params['trained'])}"
        )
    elif document["left"] < 1:
        yield Text(f"Channels above a fiftieth of the largest importance: {format_percent(document['left'])}")
    yield Text(f"Checkpoint: {document['checkpoint']}")


def _doctor(document: Document, verbose: bool) -> Lines:
    table = Table("what", "found", "what would mend it", box=SIMPLE_HEAD)
    for finding in document["findings"]:
        remedy = Text(finding["remedy"] or "", style="yellow")
        table.add_row(Text(finding["what"]), Text(str(finding["value"])), remedy)
    yield table


def _targets(document: Document, verbose: bool) -> Lines:
    table = Table("target", "what it is", "runtime", "from here", box=SIMPLE_HEAD)
    for target in document["targets"]:
        usable = Text("usable", style="green") if target["usable"] else Text(target["reason"], style="yellow")
        table.add_row(Text(target["name"], style="bold"), Text(target["title"]), Text(target["runtime"]), usable)
    yield table


def _report(document: Document, verbose: bool) -> Lines:
    yield Text(f"Report: {document['report']} ({format_bytes(document['bytes'])}), to be opened in any browser")


def _diff(document: Document, verbose: bool) -> Lines:
    found = document["differences"]
    if found:
        yield Text(f"{len(found)} difference{'s' if len(found) != 1 else ''}", style="bold yellow")
        table = Table("kind", "what", "before", "after", box=SIMPLE_HEAD)
        for one in found:
            table.add_row(one["kind"], *(Text(_as_text(one, key)) for key in ("name", "before", "after")))
        yield table
    else:
        yield Text("no difference", style="bold green")
    before, after = (document["latency_ms"][key] for key in ("before", "after"))
    if before is not None and after is not None:
        yield Text(f"Measured: {format_ms(before)} before, {format_ms(after)} after")
    yield Text(
        f"Latencies are the same within {format_percent(document['latency_limit'])}, the widest distance of a 90th"
        " percentile from its median, and at least 1 %.",
        style="dim",
    )


def _as_text(difference: Document, key: str) -> str:
    """Return one side of a difference; hashes by their first digits, as many as tell them apart for a person."""
    value = difference[key]
    if value is None:
        return "none"
    if difference["kind"] == "latency" and key != "name":
        return format_ms(value)
    if difference["kind"] in ("file", "input") and key != "name":
        return str(value)[:_DIGEST_SHOWN]
    return str(value)


def _config(document: Document, verbose: bool) -> Lines:
    table = Table("option", "value", "origin", box=SIMPLE_HEAD)
    for name, entry in document["options"].items():
        value = "" if entry["value"] is None else str(entry["value"])
        table.add_row(name, Text(value), Text(entry["origin"], style="" if entry["origin"] != "default" else "dim"))
    yield table


def _width(stream: TextIO) -> int | None:
    """Return None on a terminal, whose width rich knows; files and pipes get room for the tables."""
    return None if stream.isatty() else max(_PLAIN_WIDTH, shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns)


RENDERERS: Mapping[str, Callable[[Document, bool], Lines]] = {
    "edgeprune.check": _check,
    "edgeprune.config": _config,
    "edgeprune.diff": _diff,
    "edgeprune.doctor": _doctor,
    "edgeprune.export": _export,
    "edgeprune.plans": _plans,
    "edgeprune.profile": _profile,
    "edgeprune.tables": _tables,
    "edgeprune.replay": _diff,
    "edgeprune.report": _report,
    "edgeprune.targets": _targets,
    "edgeprune.train": _train,
    "edgeprune.verify": _export,
}
