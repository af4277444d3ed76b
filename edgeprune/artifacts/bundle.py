"""The bundle: what is shipped, and how the compact network comes back from it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from edgeprune.errors import InputError
from edgeprune.graph.cuts import Cuts
from edgeprune.graph.plan import SCHEMA as PLAN
from edgeprune.graph.plan import WidthPlan
from edgeprune.pruning.slim import cut
from edgeprune.records import make_readable, read_json, write_bytes, write_json
from edgeprune.training.lapp_network import rebuild


def save(
    folder: Path,
    small: nn.Module,
    plan: WidthPlan,
    before: Cuts | None = None,
    structure: Mapping[str, Any] | None = None,
) -> None:
    """Write `model.safetensors` and `plan.json`: all that `load` needs.

    Args:
        folder: made where it is not there.
        small: the compact network.
        plan: how it was cut.
        before: what had been cut already from the network that the code builds.
        structure: what training had built into that network before any cut; None for nothing.

    Raises:
        InputError: the weights can't be written.
    """
    write_network(folder, small, (before or Cuts()).then(plan.cuts), structure, plan.to_json()["groups"])


def write_network(
    folder: Path,
    model: nn.Module,
    cuts: Cuts,
    structure: Mapping[str, Any] | None,
    groups: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights, and how the network follows from the one that the code builds.

    Raises:
        InputError: the weights can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_model(model, str(folder / "model.safetensors"))
        make_readable(folder / "model.safetensors")
    except SafetensorError as error:  # its word for whatever the file system says
        raise InputError(
            f"{folder / 'model.safetensors'} can't be written: {error}", remedy="make room, or choose another folder"
        ) from error
    built = {"structure": dict(structure)} if structure is not None else {}
    write_json(folder / "plan.json", PLAN, {"groups": dict(groups or {}), **cuts.to_json(), **built})


def read_cuts(bundle: Path) -> Cuts:
    """Return what a bundle cuts from the network that the code builds.

    Raises:
        InputError: not a bundle.
    """
    return Cuts.from_json(read_json(bundle / "plan.json", PLAN))


def read_structure(bundle: Path) -> dict[str, Any] | None:
    """Return what training had built into the network of a bundle before it was cut; None for nothing.

    Raises:
        InputError: not a bundle.
    """
    found: dict[str, Any] | None = read_json(bundle / "plan.json", PLAN).get("structure")
    return found


def load(bundle: str | Path, model: nn.Module) -> nn.Module:
    """Return the network of a bundle or of a checkpoint; `model` is the dense one, with any weights, and left alone.

    Of a bundle made with `--submodule`, `model` is that part of the dense network.

    Raises:
        InputError: neither of the two, or of another network.
    """
    folder = Path(bundle)
    structure, cuts = read_structure(folder), read_cuts(folder)
    try:
        small = cut(model if structure is None else rebuild(model, structure), cuts)
        load_model(small, str(folder / "model.safetensors"))
    except (AttributeError, AssertionError, RuntimeError, SafetensorError, FileNotFoundError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the weights in {folder} do not fit {type(model).__name__}: {said}",
            remedy="give the network that the bundle was made from",
        ) from error
    return small


def write_latency_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a row a layer; times in microseconds."""
    columns = ["layer", "op", "cin", "cout", "dense_us", "predicted_us", "measured_us", "source"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
