"""Several bundles in one picture: accuracy against latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.report.canvas import FAINT, MEASURED, WIDTH_IN, as_svg, style


def front(points: Sequence[Mapping[str, Any]]) -> str:
    """Draw accuracy against measured latency, each bundle by its letter; those that no other beats are joined.

    Args:
        points: `letter`, `ms`, `accuracy`, `dense` (whether it is an uncut network) each.
    """
    from matplotlib.figure import Figure

    with style("front"):
        figure = Figure(figsize=(WIDTH_IN, 3.6))
        axes = figure.add_subplot()
        best = on_front(points)
        axes.step(
            [one["ms"] for one in best],
            [one["accuracy"] * 100 for one in best],
            where="post",
            color=FAINT,
            linestyle="--",
            linewidth=1,
        )
        for dense, marker, face, label in ((False, "D", MEASURED, "engine"), (True, "s", "none", "dense")):
            chosen = [one for one in points if one["dense"] == dense]
            axes.plot(
                [one["ms"] for one in chosen],
                [one["accuracy"] * 100 for one in chosen],
                linestyle="none",
                marker=marker,
                markerfacecolor=face,
                color=MEASURED,
                label=label,
            )
        for one in points:
            axes.annotate(one["letter"], (one["ms"], one["accuracy"] * 100), xytext=(6, 4), textcoords="offset points")
        axes.set_xlabel("milliseconds, measured")
        axes.set_ylabel("top-1 accuracy, %")
        axes.margins(0.12)
        axes.legend(loc="lower right")
        figure.tight_layout()
        return as_svg(figure, "front", "Accuracy against measured latency")


def on_front(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the points that no other is both as fast and as accurate as, the fastest first."""
    found: list[Mapping[str, Any]] = []
    for one in sorted(points, key=lambda one: (one["ms"], -one["accuracy"])):
        if not found or one["accuracy"] > found[-1]["accuracy"]:
            found.append(one)
    return found
