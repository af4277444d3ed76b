"""What all figures share: their size, their style, and how they become part of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in these, which nothing else on the page has; the SVG then says which of the page's colours is meant.
INK, FAINT, DENSE, PREDICTED, MEASURED, LOCKED = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {
    INK: "--ink",
    FAINT: "--faint",
    DENSE: "--dense",
    PREDICTED: "--predicted",
    MEASURED: "--measured",
    LOCKED: "--locked",
}
_ALONE = (
    "{--ink: #16191d; --faint: #a3aab3; --dense: #6b727b; --predicted: #8a4b08; --measured: #0b5cad; --locked: #7d828a}"
)
WIDTH_IN = 4.4
_ROW_IN = 0.2
_ABOVE_IN = 0.5
_BELOW_IN = 0.8
_LONGEST_LABEL = 22
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a module's name may have dollars in it
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """Draw in the page's style, and the same content to the same bytes."""
    from matplotlib import rc_context

    with rc_context({**_STYLE, "svg.hashsalt": name}):
        yield


@contextmanager
def rows_figure(name: str, labels: Sequence[str]) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure with a row for each of `labels`, of the same height however many there are."""
    from matplotlib.figure import Figure

    shown = [short(label) for label in labels]
    with style(name):
        height = _ROW_IN * len(shown) + _ABOVE_IN + _BELOW_IN
        figure = Figure(figsize=(WIDTH_IN, height))
        left = min(0.4, (0.085 * max(map(len, shown), default=0) + 0.12) / WIDTH_IN)
        axes = figure.add_axes((left, _BELOW_IN / height, 0.97 - left, _ROW_IN * len(shown) / height))
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), shown, fontsize=9)
        axes.tick_params(axis="y", left=False)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.spines["top"].set_visible(True)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        yield figure, axes


def add_legend(figure: Figure) -> None:
    figure.legend(loc="lower center", ncols=2, fontsize=9, columnspacing=1, handlelength=1.6)


def short(label: str) -> str:
    """Return a label of bounded length: what tells modules apart stands at the end of their names."""
    return label if len(label) <= _LONGEST_LABEL else "…" + label[1 - _LONGEST_LABEL :]


def as_svg(figure: Figure, name: str, title: str) -> str:
    """Return the figure as an SVG element for a page: its colours are the page's, its ids begin with `name`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    FigureCanvasSVG(figure).print_figure(stream, format="svg", metadata={"Date": None, "Title": title})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


def alone(svg: str) -> bytes:
    """Return an SVG element of a page as a file of its own, in the page's light colours."""
    return svg.replace(">", f"><style>svg {_ALONE}</style>", 1).encode()
