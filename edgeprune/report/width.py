"""Why a module has its width, for a person: from the `explain` of a plan in `edgeprune.plans/1`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.units import format_ms, format_percent

Document = Mapping[str, Any]


def width_lines(plan: Document, whole: float | None) -> Iterator[RenderableType]:
    """Yield why a module is as wide as it is in one plan; `whole` is the dense network's value."""
    explained = plan["explain"]
    yield Text(f"{explained['module']} for {format_ms(plan['budget'])}", style="bold")
    if explained["locked"]:
        yield Text(f"Its own output stays whole: {explained['locked']}")
    for group in explained["groups"]:
        yield from _group(group, plan, whole)


def _group(group: Document, plan: Document, whole: float | None) -> Iterator[RenderableType]:
    name = f"Group {group['group']}: {group['width']} of {group['of']} channels"
    if group["fixed"]:
        yield Text(f"{name}; {group['fixed']}")
        return
    yield Text(f"{name}, beside the other groups as planned:")
    table = Table("width", "value kept", "network", "time saved", "", box=SIMPLE_HEAD)
    for column in table.columns[:4]:
        column.justify = "right"
    for point in group["curve"]:
        kept = "" if point["kept"] is None else format_percent(point["kept"])
        over = "over the budget" if point["ms"] > plan["budget"] else ""
        chosen = "chosen" if point["width"] == group["width"] else over
        row = (str(point["width"]), kept, format_ms(point["ms"]), format_ms(point["saved_ms"]), chosen)
        table.add_row(*row, style="bold" if chosen == "chosen" else "")
    yield table
    yield from _channels(group["channels"])
    yield Text(_runner_up(group["runner_up"], whole))


def _channels(scores: Document) -> Iterator[Text]:
    said = {"least_kept": "the least that stays scores", "most_removed": "the most important that goes"}
    parts = [f"{words} {scores[key]:.3g}" for key, words in said.items() if scores[key] is not None]
    yield Text(f"Channels: {', '.join(parts)}")


def _runner_up(other: Document | None, whole: float | None) -> str:
    if other is None:
        return "Runner-up: none; --strategy latency has one, where another width leads to a plan within the budget"
    lost = f"{format_percent(other['lost'] / whole)} of the dense network's value" if whole else f"{other['lost']:.3g}"
    changed = other["others_changed"]
    return (
        f"Runner-up: {other['width']} channels; the best plan with them loses {lost} more, takes "
        f"{format_ms(other['ms'])} and changes {changed} other group{'s' if changed != 1 else ''}"
    )
