"""Results as text for a person, made from the very JSON that `--json` prints: the two cannot differ.

Every renderer takes a document and returns what rich prints. A value that is null in the document (no data, so no
accuracy; no device, so nothing measured) is left out, never shown as a number.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeprune.report.outcome import (
    WIDTHS_SHOWN,
    Document,
    Lines,
    meaning_of,
    or_blank,
    outcome,
    pair,
    repetition,
    span,
    widths,
)
from edgeprune.report.width import width_lines
from edgeprune.units import format_bytes, format_count, format_ms, format_percent, format_seconds

_PLAIN_WIDTH = 110
_DIGEST_SHOWN = 12
_TOLD_APART = 0.95


def print_result(document: Document, stream: TextIO, *, verbose: bool = False) -> None:
    """Print a result on `stream`; its schema says how. `verbose` leaves no row out."""
    console = Console(file=stream, highlight=False, width=_width(stream))
    kind = str(document.get("schema", "")).partition("/")[0]
    with console.capture() as captured:  # rich would end the process when nobody reads the stream
        for part in RENDERERS[kind](document, verbose):
            console.print(part, soft_wrap=isinstance(part, Text))
    stream.write(captured.get())


def _plans(document: Document, verbose: bool) -> Lines:
    """Render a ladder of plans: one row a budget, and the widths of each that can be reached."""
    latency, plans = document.get("latency_ms", {}), document["plans"]
    yield Text(
        f"Dense {format_ms(latency['dense'])} on {document['target']}, floor {format_ms(latency['floor'])} "
        f"(no plan is faster). Kept is the share of the dense network's value."
    )
    if document.get("strategy", "latency") != "latency":
        yield Text(f"Strategy: {document['strategy']}")
    headings = ("budget", "predicted", "band", "kept", "MACs", "params", "gap", "held by")
    table = Table(*headings, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)  # fits into 80 columns
    for column in table.columns[:-1]:
        column.justify = "right"
    table.columns[-1].overflow = "fold"
    for plan in plans:
        table.add_row(*_plan_row(plan))
    yield table
    for plan in plans:
        if plan.get("reason"):
            yield Text(f"{format_ms(plan['budget'])}: {plan['reason']}; {plan['remedy']}", style="yellow")
        if plan.get("explain"):
            whole = plan["value"] / plan["kept"] if plan["kept"] else None
            yield from width_lines(plan, whole)
        elif plan.get("plan") and (verbose or len(plans) == 1):
            yield Text(f"Widths for {format_ms(plan['budget'])}", style="bold")
            yield from widths(plan["plan"], None if verbose else WIDTHS_SHOWN)
    yield from repetition(document)
    yield Text(meaning_of(document), style="dim")


def _plan_row(plan: Document) -> tuple[str, ...]:
    budget = format_ms(plan["budget"])
    if plan.get("predicted") is None:
        return (budget, "out of reach")
    low_high, solver = plan.get("band"), plan.get("solver") or {}
    return (
        budget,
        format_ms(plan["predicted"]),
        span(*low_high) if low_high else "",
        or_blank(plan.get("kept"), format_percent),
        or_blank(pair(plan, "macs")[1], format_count),
        or_blank(pair(plan, "params")[1], format_count),
        or_blank(solver.get("gap"), lambda value: f"{value * 100:.2g} %"),
        ", ".join(solver.get("binding", ())) or "nothing",
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
    if document.get("inserted") is not None:
        yield Text(
            f"Not in the layers' rows: {format_percent(document['inserted'])} of it in what the runtime inserted"
            f" (changes of layout or type), {format_percent(document['unexplained'])} that no layer explains."
        )
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
    if document.get("explain"):
        yield from _staircase(document["explain"])
    for picture in document.get("pictures", ()):
        yield Text(f"Picture: {picture}")
    if document.get("table"):
        yield Text(f"Kept in {document['table']}")
    yield from repetition(document)
    yield Text(meaning_of(document), style="dim")


def _staircase(layer: Document) -> Lines:
    """Render what a layer costs at each width, by its steps."""
    if not layer["steps"]:
        yield Text(f"{layer['layer']} ({layer['op']}) takes {format_ms(layer['us'][0] / 1000)}; no width changes it.")
        return
    where = "" if layer["group"] == layer["layer"] else f", which {layer['group']} decides"
    yield Text(f"{layer['layer']} ({layer['op']}) over its {layer['side']} channels{where}; the rest is dense:")
    table = Table("channels", "time", "known", "in place of", "which cost up to", box=SIMPLE_HEAD)
    table.columns[0].justify = table.columns[1].justify = table.columns[4].justify = "right"
    for one in layer["steps"]:
        narrower = one["width"] - one["least"]
        table.add_row(
            str(one["width"]),
            format_ms(one["us"] / 1000),
            one["source"],
            f"{one['least']} to {one['width'] - 1}" if narrower > 1 else f"{one['least']}" if narrower else "",
            format_ms(one["dearest_us"] / 1000) if narrower else "",
        )
    yield table
    timed = ", ".join(map(str, layer["timed"]))
    yield Text(f"Networks were timed with {timed} of {layer['of']} channels.")
    yield Text("A width that is no step costs what the next wider step does, within 2 %, or more.")


def _check(document: Document, verbose: bool) -> Lines:
    style = "bold green" if document["usable"] else "bold red"
    yield Text(f"Latency table for {document['target']}: {document['sentence']}", style=style)
    for network in document["networks_ms"]:
        yield Text(f"- {format_ms(network['table'])} in the table, {format_ms(network['now'])} now")
    if document["networks_ms"]:
        yield Text(f"Repetition: {document['repetition']}", style="dim")
    if document.get("table"):
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
    before = accuracy.get("before")
    started = "" if before is None else f", {format_percent(before)} before"
    yield Text(
        f"Trained with {document['method']} for {document['epochs']} epochs: "
        f"accuracy {format_percent(accuracy['last'])} (best epoch {format_percent(accuracy['best'])}{started}), "
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
    if document["method"] in ("rni", "slimming") and document["left"] > _TOLD_APART:
        yield Text(
            "The training has not told channels apart: hardly any channel's importance has dropped. Try more --epochs,"
            " or --strength.",
            style="yellow",
        )
    yield Text(f"Checkpoint: {document['checkpoint']}")


def _doctor(document: Document, verbose: bool) -> Lines:
    table = Table("what", "found", "how to fix it", box=SIMPLE_HEAD)
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
        f"Latencies are the same within {format_percent(document['latency_limit'])}: that far sessions on one machine"
        " may be apart.",
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
        table.add_row(
            name,
            Text(_as_written(entry["value"])),
            Text(entry["origin"], style="" if entry["origin"] != "default" else "dim"),
        )
    yield table


def _as_written(value: Any) -> str:
    """Return an option's value as it would stand in a file, without its quotes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _width(stream: TextIO) -> int | None:
    """Return None on a terminal, whose width rich knows; files and pipes get room for the tables."""
    return None if stream.isatty() else max(_PLAIN_WIDTH, shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns)


RENDERERS: Mapping[str, Callable[[Document, bool], Lines]] = {
    "edgeprune.check": _check,
    "edgeprune.config": _config,
    "edgeprune.diff": _diff,
    "edgeprune.doctor": _doctor,
    "edgeprune.export": outcome,
    "edgeprune.plans": _plans,
    "edgeprune.profile": _profile,
    "edgeprune.tables": _tables,
    "edgeprune.replay": _diff,
    "edgeprune.report": _report,
    "edgeprune.targets": _targets,
    "edgeprune.train": _train,
    "edgeprune.verify": outcome,
}
