"""Pictures of a latency table, as files of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune.records import write_bytes
from edgeprune.report.canvas import alone
from edgeprune.report.figures import held_out, staircases


def table_pictures(folder: Path, layer: Mapping[str, Any], networks: Sequence[tuple[float, float]]) -> list[Path]:
    """Write a layer's staircase, and predicted against measured latency; return the files.

    Args:
        folder: made where it is not there; files of the same names are replaced.
        layer: from `latency.explain.explained`.
        networks: (predicted, measured) ms of networks that the fit had not seen.
    """
    written = {}
    if layer["widths"]:
        curve = {**layer, "width": layer["of"]}
        written[f"{layer['layer']}.svg"] = staircases([curve], f"What each width of {layer['layer']} costs")
    if networks:
        written["predicted.svg"] = held_out(networks)
    for name, svg in written.items():
        write_bytes(folder / name, alone(svg))
    return [folder / name for name in written]
