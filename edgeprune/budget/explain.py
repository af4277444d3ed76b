"""Why a group has the width that it has: what its neighbours are worth and cost, and the best plan without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.budget.choice import Choice
from edgeprune.budget.solve import Solution
from edgeprune.budget.strategies import Latency
from edgeprune.errors import BudgetError, InputError, nearest
from edgeprune.graph.channels import ChannelGraph, ChannelGroup
from edgeprune.latency.predict import NetworkTable

_NEIGHBOURS = 2
_INEXACT = "its cut is inexact by nature: --allow-inexact lets it be narrowed"


def groups_of(graph: ChannelGraph, module: str) -> list[ChannelGroup]:
    """Return the groups whose channels a module makes, or else those that it reads; none where all of it is locked.

    Raises:
        InputError: no such module has weights; the nearest name is suggested.
    """
    made = [
        group
        for group in graph
        if any(slot.module == module and graph.outputs.get(slot.tensor) == slot.dim for slot in group.slots)
    ]
    found = made or [group for group in graph if module in (group.name, *group.modules)]
    if not found and not _locked(graph, module):
        names = {name for one in (*graph, *graph.locked) for name in one.modules} | set(graph.groups)
        raise InputError(
            f"no module with channels is named {module!r}{nearest(module, names)}",
            remedy="`edgeprune plan --verbose` lists the groups and their modules",
        )
    return found


def explain_width(
    choice: Choice, table: NetworkTable, solution: Solution, budget_us: float, module: str, drift: float = 1.0
) -> dict[str, Any]:
    """Return why the groups of a module have their widths in a plan, as JSON.

    Args:
        choice: what may be chosen.
        table: what the layers cost.
        solution: the plan.
        budget_us: the budget that it was made for, where the dense network takes what the table says.
        module: a module's name, or a group's.
        drift: factor from the table's times to those of now.

    Raises:
        InputError: there is no such module.
    """
    planned = _Planned(choice, table, solution, budget_us, drift)
    return {
        "module": module,
        "locked": _locked(choice.graph, module) or None,
        "groups": [planned.reason(group) for group in groups_of(choice.graph, module)],
    }


def _locked(graph: ChannelGraph, module: str) -> str:
    return "; ".join(dict.fromkeys(one.reason for one in graph.locked if module in one.modules))


@dataclass(frozen=True, eq=False)
class _Planned:
    """A plan, with what it was found by; as `explain_width` takes them."""

    choice: Choice
    table: NetworkTable
    solution: Solution
    budget_us: float
    drift: float

    def reason(self, group: ChannelGroup) -> dict[str, Any]:
        """Return why a group has its width."""
        found: dict[str, Any] = {"group": group.name, "modules": list(group.modules), "of": group.channels}
        if group.name not in self.solution.widths:
            unknown: dict[str, Any] = {"curve": [], "channels": None, "runner_up": None}
            return {**found, "width": group.channels, "fixed": _INEXACT, **unknown}
        return {
            **found,
            "width": self.solution.widths[group.name],
            "fixed": None,
            "curve": self._curve(group),
            "channels": self._channels(group),
            "runner_up": self._runner_up(group.name),
        }

    def _curve(self, group: ChannelGroup) -> list[dict[str, Any]]:
        """Return a point for the chosen width, its neighbours and the whole group, the other groups as planned."""
        width = self.solution.widths[group.name]
        widths = np.union1d(self.choice.candidates(self.table)[group.name], [width, group.channels])
        at = int(np.searchsorted(widths, width))
        shown = np.union1d(widths[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1], [group.channels]).tolist()
        full = {one.name: one.channels for one in self.choice.graph} | self.solution.widths
        ms = {one: self.table.predict({**full, group.name: one}).ms * self.drift for one in shown}
        value = self.choice.values[group.name]
        return [
            {
                "width": one,
                "value": float(value[one]),
                "kept": _share(float(value[one]), float(value[group.channels])),
                "ms": ms[one],
                "saved_ms": ms[group.channels] - ms[one],
            }
            for one in shown
        ]

    def _channels(self, group: ChannelGroup) -> dict[str, float | None]:
        """Return the score of the least important channel that stays and of the most important one that goes."""
        scores = np.asarray(self.choice.scores[group.name], dtype=np.float64)
        kept = self.choice.plan({group.name: self.solution.widths[group.name]}).kept[group.name]
        gone = np.delete(scores, kept)
        return {
            "least_kept": float(scores[kept].min()) if len(kept) else None,
            "most_removed": float(gone.max()) if len(gone) else None,
        }

    def _runner_up(self, name: str) -> dict[str, Any] | None:
        """Return the best plan in which the group has another width; None where there is none, or another strategy."""
        if self.choice.strategy != "latency" or len(self.choice.candidates(self.table)[name]) < 2:
            return None
        widths = self.solution.widths
        try:
            other = Latency(self.choice, self.table, without={name: widths[name]}).best(self.budget_us)
        except BudgetError:
            return None
        return {
            "width": other.widths[name],
            "value": other.value,
            "lost": self.solution.value - other.value,
            "ms": other.cost_us / 1000 * self.drift,
            "others_changed": sum(other.widths[one] != width for one, width in widths.items() if one != name),
        }


def _share(value: float, whole: float) -> float | None:
    return value / whole if whole > 0 else None
