"""Why a bundle is as it is: `evidence.json`, which its report is made from together with the manifest.

What is kept is what the run had in hand: how the shipped engine and the dense one were timed, every layer's widths,
what could not be cut and why, every network that the closed loop measured, how much of the importance each group kept,
what a training for pruning gave to the channels, and the steps of the layers that became faster most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.cutting import Attempt
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.measurement import Measurement
from edgeprune.latency.predict import CostRow
from edgeprune.prepare import Prepared
from edgeprune.pruning.importance import training_means
from edgeprune.scoring import TRAINED

STAIRCASES = 6
"""So many layers have their staircase kept: those that the plan saved most time in."""

BINS = 40
"""Bars of the histogram of what training gave: enough for two modes to stand apart."""

_STEPS = 256
"""A staircase has a point for each width, and no more than so many."""


def evidence(ready: Prepared, attempts: Sequence[Attempt], folder: Path) -> dict[str, Any]:
    """Return the content of `evidence.json`.

    Args:
        ready: the dense network on its target.
        attempts: every network that was cut and shipped, in turn; the last one is what the bundle holds.
        folder: where the shipped files are.
    """
    plan, measured = attempts[-1].plan, attempts[-1].shipped.measured
    engine = sum(path.stat().st_size for path in (folder / "engine").rglob("*") if path.is_file())
    dense = WidthPlan.dense(ready.graph)
    return {
        "measurement": {"dense": _timed(ready.dense), "engine": _timed(measured)},
        "bytes": {
            "onnx": {"dense": len(ready.blueprint.at(dense)), "pruned": (folder / "model.onnx").stat().st_size},
            "engine": engine,
        },
        "layers_factor": attempts[-1].shipped.layers_factor,
        "layers": _layers(ready, plan),
        "locked": [
            {"modules": list(one.modules), "channels": one.channels, "reason": one.reason} for one in ready.graph.locked
        ],
        "networks": [one for attempt in attempts for one in attempt.decision.networks],
        "criterion": ready.criterion,
        "importance": _importance(ready, plan),
        "trained": trained_histogram(training_means(ready.graph, ready.subject.importances), plan)
        if ready.criterion == TRAINED
        else None,
        "staircases": _staircases(ready, plan, dense),
    }


def _timed(measured: Measurement | None) -> dict[str, Any] | None:
    """Return a measurement without its samples; None where nothing was measured."""
    if measured is None:
        return None
    return {
        "median_ms": measured.median_ms,
        "p90_ms": measured.p90_ms,
        "min_ms": measured.min_ms,
        "spread": measured.spread,
        "samples": len(measured.samples_ms),
        "undisturbed": measured.undisturbed,
        "trusted": measured.trusted,
    }


def _layers(ready: Prepared, plan: WidthPlan) -> list[dict[str, Any]]:
    """Return convolutions and linear layers in the order of execution with their output channels, dense and kept."""
    before = WidthPlan.dense(ready.graph).widths
    cuttable = {group.name for group in ready.graph.cuttable}
    found = []
    for layer in ready.graph.layers:
        weight = f"{layer.name}.weight"
        if weight not in ready.graph.outputs:
            continue
        axis = ready.graph.axis(weight, ready.graph.outputs[weight])
        found.append(
            {
                "layer": layer.name,
                "op": layer.op,
                "of": axis.width(before),
                "width": axis.width(plan.widths),
                "locked": not cuttable & set(axis.parts),
            }
        )
    return found


def _importance(ready: Prepared, plan: WidthPlan) -> dict[str, Any]:
    """Return group -> its share of the network's importance, and the share of that which its kept channels hold."""
    found = {}
    for group in ready.graph.cuttable:
        value = ready.choice.values[group.name]
        whole, kept = float(value[group.channels]), float(value[plan.widths[group.name]])
        found[group.name] = {"share": whole, "kept": kept / whole if whole else None}
    return found


def trained_histogram(means: Mapping[str, np.ndarray], plan: WidthPlan) -> dict[str, Any]:
    """Return how many channels training gave how much, and how many of those the plan keeps.

    Args:
        means: group -> one number a channel, 0 or more.
        plan: of the same groups.

    Returns:
        `edges` (bins + 1), from 0 to the largest, and for each bin `kept` and `removed` (bins).
    """
    kept = {name: np.isin(np.arange(len(one)), plan.kept.get(name, np.arange(len(one)))) for name, one in means.items()}
    values, stays = (np.concatenate([found[name] for name in means]) for found in (means, kept))
    edges = np.linspace(0, values.max() or 1.0, BINS + 1)
    counts = {name: np.histogram(values[which], edges)[0] for name, which in (("kept", stays), ("removed", ~stays))}
    return {"edges": [round(float(edge), 6) for edge in edges], **{name: one.tolist() for name, one in counts.items()}}


def _staircases(ready: Prepared, plan: WidthPlan, dense: WidthPlan) -> list[dict[str, Any]]:
    """Return the predicted time, as of now, over the output channels of the layers that the plan saved most time in."""
    before = {row.name: us for row, us, _ in ready.table.layers(dense.widths)}
    saved = [(before[row.name] - us, row) for row, us, _ in ready.table.layers(plan.widths) if row.axes[1].parts]
    most = sorted(saved, key=lambda pair: -pair[0])[:STAIRCASES]
    return [_staircase(ready, plan, row) for gain, row in most if gain > 0]


def _staircase(ready: Prepared, plan: WidthPlan, row: CostRow) -> dict[str, Any]:
    cin, cout = row.axes
    widest, chosen = cout.width(WidthPlan.dense(ready.graph).widths), cout.width(plan.widths)
    widths = np.unique([*np.linspace(1, widest, min(widest, _STEPS)).round().astype(int), chosen])
    widths = widths[widths > 0]
    entering = cin.width(plan.widths)
    us = (
        ready.table.row_us(row, np.full(len(widths), entering), widths, plan.widths)
        if entering
        else np.zeros(len(widths))
    )
    key = row.key(plan.widths)
    timed = sorted(
        {
            one.key.cout
            for record in ready.table.records
            for one in record.rows
            if one.key.family == key.family and one.key.cin == entering
        }
    )
    return {
        "layer": row.name,
        "cin": entering,
        "of": widest,
        "width": chosen,
        "widths": widths.tolist(),
        "us": [round(float(one) * ready.drift, 3) for one in us],
        "timed": timed,
    }
