"""The page's pictures as SVG: matplotlib draws, the page's own colours fill.

What is known how is told by shape, not by colour alone: measured is a filled diamond or a solid bar, predicted from
measured widths a bar of upright lines, interpolated a slanted one, assumed a crossed one, dense a bare outline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.report.canvas import (
    DENSE,
    FAINT,
    INK,
    LOCKED,
    MEASURED,
    PREDICTED,
    WIDTH_IN,
    add_legend,
    as_svg,
    rows_figure,
    short,
    style,
)

HATCHES = {"measured": "||||", "interpolated": "////", "assumed": "xxxx"}
"""How a prediction is filled, by the source of the table's number."""

_SMALL = 0.01
"""Layers whose times are all under this share of the longest bar are drawn together, where there are `_FEW` or more."""

_FEW = 6

_UNEVEN = 8
"""Where the widest layer has more than so many times the narrowest one's channels, bars grow with their square root."""

_TIMES = ("dense_us", "predicted_us", "measured_us")

_PREDICTED_FROM = {
    "measured": "predicted, timed at these widths",
    "interpolated": "predicted, interpolated",
    "assumed": "predicted, assumed",
}


def network(layers: Sequence[Mapping[str, Any]]) -> str:
    """Draw every layer's output channels as a bar, in the order of execution: the outline before, filled after.

    Args:
        layers: `layer`, `of`, `width`, `locked` each.
    """
    widths = [one["of"] for one in layers]
    power = 0.5 if max(widths) > _UNEVEN * min(widths) else 1.0
    with rows_figure("network", [str(one["layer"]) for one in layers]) as (figure, axes):
        rows = range(len(layers))
        before = [one**power for one in widths]
        axes.barh(
            rows, before, left=[-one / 2 for one in before], height=0.8, fill=False, edgecolor=DENSE, label="dense"
        )
        for locked, colour, hatch, label in (
            (False, MEASURED, "", "kept"),
            (True, LOCKED, "xxxx", "locked"),
        ):
            at = [row for row in rows if layers[row]["locked"] == locked and layers[row]["width"]]
            kept = [layers[row]["width"] ** power for row in at]
            if at:
                axes.barh(
                    at,
                    kept,
                    left=[-one / 2 for one in kept],
                    height=0.8,
                    color="none" if hatch else colour,
                    edgecolor=colour,
                    hatch=hatch,
                    linewidth=0.8,
                    label=label,
                )
        widest = max(before)
        for row in rows:
            changed = layers[row]["width"] != widths[row]
            axes.text(
                widest * 0.53,
                row,
                f"{layers[row]['width']} of {widths[row]}" if changed else f"{widths[row]}",
                va="center",
                fontsize=9,
            )
        axes.set_xlim(-widest * 0.52, widest * 1.15)
        axes.set_xticks([])
        axes.spines["top"].set_visible(False)
        if power != 1:
            axes.set_xlabel("length: square root of the channels", fontsize=9)
        add_legend(figure)
        return as_svg(figure, "network", "Output channels of every layer, before and after")


def latency(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw every layer's time: dense as an outline, predicted as a bar by its source, measured as a diamond.

    Many small layers become one row, *others*.

    Args:
        rows: of latency.csv.
    """
    rows = _small_ones_together(rows)
    with rows_figure("latency", [str(one["layer"]) if one["op"] else "no layer" for one in rows]) as (figure, axes):
        at = range(len(rows))
        axes.barh(at, [one["dense_us"] or 0 for one in rows], height=0.8, fill=False, edgecolor=DENSE, label="dense")
        for source, hatch in HATCHES.items():
            found = [row for row in at if rows[row]["source"] == source]
            if found:
                axes.barh(
                    found,
                    [rows[row]["predicted_us"] or 0 for row in found],
                    height=0.5,
                    color="none",
                    edgecolor=PREDICTED,
                    hatch=hatch,
                    linewidth=0.8,
                    label=_PREDICTED_FROM[source],
                )
        rest = [row for row in at if rows[row]["source"] is None and rows[row]["predicted_us"]]
        if rest:
            axes.barh(rest, [rows[row]["predicted_us"] for row in rest], height=0.5, color="none", edgecolor=PREDICTED)
        seen = [row for row in at if rows[row]["measured_us"] is not None]
        axes.plot(
            [rows[row]["measured_us"] for row in seen],
            seen,
            linestyle="none",
            marker="D",
            markersize=4.5,
            color=MEASURED,
            label="measured in the engine",
        )
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("microseconds")
        add_legend(figure)
        return as_svg(figure, "latency", "Time of every layer: dense, predicted and measured")


def _small_ones_together(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the rows with the small layers added up in one, before what no layer explains."""
    longest = [max(row[name] or 0 for name in _TIMES) for row in rows]
    small = [row for row, us in zip(rows, longest, strict=True) if row["op"] and us < _SMALL * max(longest)]
    if len(small) < _FEW:
        return rows
    sums = {name: sum(row[name] or 0 for row in small) for name in _TIMES}
    others = {"layer": f"{len(small)} others", "op": "others", "source": None, **sums}
    left = [row for row in rows if row not in small]
    at = next((at for at, row in enumerate(left) if not row["op"]), len(left))
    return [*left[:at], others, *left[at:]]


def rounds(networks: Sequence[Mapping[str, Any]], budget_ms: float) -> str:
    """Draw what the closed loop built: predicted as a hollow circle, measured as a diamond, the budget as a line.

    Args:
        networks: `predicted_ms`, `measured_ms`, `chosen` each, in the order they were built.
        budget_ms: the budget.
    """
    with rows_figure("rounds", [f"network {at + 1}" for at in range(len(networks))]) as (figure, axes):
        at = list(range(len(networks)))
        for row, one in enumerate(networks):
            axes.plot([one["predicted_ms"], one["measured_ms"]], [row, row], color=FAINT, linewidth=1)
        axes.plot(
            [one["predicted_ms"] for one in networks],
            at,
            linestyle="none",
            marker="o",
            markerfacecolor="none",
            color=PREDICTED,
            label="predicted",
        )
        axes.plot(
            [one["measured_ms"] for one in networks],
            at,
            linestyle="none",
            marker="D",
            markersize=5,
            color=MEASURED,
            label="measured",
        )
        axes.axvline(budget_ms, color=INK, linestyle="--", linewidth=1, label="budget")
        for row, one in enumerate(networks):
            if one["chosen"]:
                axes.annotate(
                    "chosen",
                    (max(one["measured_ms"], one["predicted_ms"]), row),
                    xytext=(7, 0),
                    textcoords="offset points",
                    va="center",
                )
        axes.margins(x=0.25)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("milliseconds, end to end")
        add_legend(figure)
        return as_svg(figure, "rounds", "Networks that the closed loop built and measured, against the budget")


def staircases(
    curves: Sequence[Mapping[str, Any]], title: str = "What each width costs in the layers that became faster most"
) -> str:
    """Draw what a width costs, one small picture a layer; a diamond where a network with that width was timed.

    Args:
        curves: `layer`, `widths`, `us`, `timed`, `width` (chosen), `of` (dense) each.
        title: for those who hear the page.
    """
    from matplotlib.figure import Figure

    high = (len(curves) + 1) // 2
    with style("staircases"):
        figure = Figure(figsize=(WIDTH_IN, 1.55 * high + 0.45))
        for number, curve in enumerate(curves):
            axes = figure.add_subplot(high, 2 if len(curves) > 1 else 1, number + 1)
            cost = dict(zip(curve["widths"], curve["us"], strict=True))
            axes.plot(list(cost), list(cost.values()), color=PREDICTED, linewidth=1.2, linestyle="--")
            timed = [width for width in curve["timed"] if width in cost]
            axes.plot(
                timed, [cost[width] for width in timed], linestyle="none", marker="D", markersize=3, color=MEASURED
            )
            axes.axvline(curve["width"], color=INK, linewidth=1)
            axes.set_title(short(str(curve["layer"])), fontsize=9)
            axes.set_xlim(0, curve["of"] * 1.03)
            axes.set_ylim(0, (max(cost.values()) or 1.0) * 1.1)
            axes.tick_params(labelsize=8)
        figure.supxlabel(f"{curves[0].get('side', 'output')} channels", fontsize=9)
        figure.supylabel("microseconds", fontsize=9)
        figure.tight_layout()
        return as_svg(figure, "staircases", title)


def held_out(networks: Sequence[tuple[float, float]]) -> str:
    """Draw (predicted, measured) ms of networks that the fit had not seen, around the line where the two are equal."""
    from matplotlib.figure import Figure

    with style("held-out"):
        figure = Figure(figsize=(WIDTH_IN, WIDTH_IN))
        axes = figure.add_subplot()
        predicted, measured = zip(*networks, strict=True)
        most = 1.05 * max(*predicted, *measured)
        axes.plot([0, most], [0, most], color=FAINT, linewidth=1)
        axes.plot(predicted, measured, linestyle="none", marker="D", markersize=4, color=MEASURED)
        axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
        axes.set_xlabel("predicted, milliseconds")
        axes.set_ylabel("measured, milliseconds")
        figure.tight_layout()
        return as_svg(figure, "held-out", "Networks that the fit had not seen: predicted and measured latency")


def trained(histogram: Mapping[str, Any]) -> str:
    """Draw how many channels training gave how much: those that stay filled, those that go crossed on top of them.

    Args:
        histogram: `edges` (bins + 1), and `kept` and `removed` (bins).
    """
    from matplotlib.figure import Figure

    edges, kept, removed = (histogram[name] for name in ("edges", "kept", "removed"))
    wide = edges[1] - edges[0]
    with style("trained"):
        figure = Figure(figsize=(WIDTH_IN, 2.6))
        axes = figure.add_subplot()
        axes.bar(edges[:-1], kept, width=wide, align="edge", color=MEASURED, label=f"kept ({sum(kept)})")
        gone = [at for at, count in enumerate(removed) if count]
        axes.bar(
            [edges[at] for at in gone],
            [removed[at] for at in gone],
            width=wide,
            align="edge",
            bottom=[kept[at] for at in gone],
            color="none",
            edgecolor=PREDICTED,
            hatch="xxxx",
            linewidth=0.8,
            label=f"removed ({sum(removed)})",
        )
        axes.set_xlim(0, edges[-1])
        axes.set_xlabel("importance that training gave")
        axes.set_ylabel("channels")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)
        figure.tight_layout()
        return as_svg(figure, "trained", "How many channels training gave how much importance, kept and removed")
