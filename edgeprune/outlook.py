"""What a run is going to do, and how long it will take, said before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.cutting import epochs_of
from edgeprune.latency.rule import FINAL, LONG, Rule
from edgeprune.prepare import Prepared
from edgeprune.training.duration import recovery_seconds
from edgeprune.training.recipe import Recipe
from edgeprune.units import format_ms, format_seconds

NAMED = 6
"""So many of the groups that become narrower are named."""

USUAL_ROUNDS = 3
"""Networks that the closed loop usually builds: 2 to 4 in what `tools/bench/budgets.py` found."""

_COMPARED = 3
"""It times them beside two others: the dense one, and the one so far nearest the budget."""


def announcement(ready: Prepared, planned: Mapping[str, Any], out: Path) -> str:
    """Return what is going to happen, in three lines.

    Args:
        ready: the dense network on its target.
        planned: the document of the dry run.
        out: where the bundle goes.
    """
    latency, (low, high) = planned["latency_ms"], planned["band_ms"]
    epochs = epochs_of(ready, narrower=any(one["width"] < one["of"] for one in planned["plan"].values()))
    built = "" if ready.absence else f"up to {planned['max_rounds']} networks are built and measured, then "
    trained = f"{epochs} {'epoch' if epochs == 1 else 'epochs'} of recovery"
    return (
        f"Plan: dense {format_ms(latency['dense'])}, budget {format_ms(latency['budget'])}, floor "
        f"{format_ms(latency['floor'])}; predicted {format_ms(latency['predicted'])} ({format_ms(low)} to "
        f"{format_ms(high)}).\n"
        f"Narrower: {narrower(planned['plan'])}.\n"
        f"Next: {built}{trained}; {_duration(ready, planned['macs'], epochs)}. The bundle goes to {out}."
    )


def narrower(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Return which groups become narrower, those first that lose the largest share of their channels.

    Args:
        groups: as in a document's "plan".
    """
    cut = [one for one in groups.values() if one["width"] < one["of"]]
    most = sorted(cut, key=lambda one: float(one["width"] / one["of"]))[:NAMED]
    named = ", ".join(f"{one['modules'][0]} {one['of']} to {one['width']}" for one in most)
    rest = f", and {len(cut) - len(most)} more" if len(cut) > len(most) else ""
    return f"{len(cut)} of {len(groups)} groups{': ' * bool(cut)}{named}{rest}"


def _duration(ready: Prepared, macs: Mapping[str, int], epochs: int) -> str:
    """Return how long the rest of the run is expected to take, when nothing else runs here."""
    measuring_s = 0.0 if ready.absence else USUAL_ROUNDS * _seconds(LONG) + _seconds(FINAL)
    data, training_s = ready.subject.data, 0.0
    if data is not None and epochs:
        recipe = Recipe(epochs=epochs, seed=ready.job.seed)
        found = recovery_seconds(ready.subject.model, data, recipe, macs["pruned"] / max(macs["dense"], 1))
        if found is None:
            return f"about {format_seconds(measuring_s)}, and the training"
        training_s = found
    return f"about {format_seconds(measuring_s + training_s)} in all"


def _seconds(rule: Rule) -> float:
    """Return how long networks are timed side by side by a rule."""
    return (rule.warmup_s + (rule.rounds + rule.rounds_max) / 2 * rule.round_s) * _COMPARED
