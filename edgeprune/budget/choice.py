"""What may be chosen, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeprune.budget.problem import Problem, formulate, formulate_macs
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.sampling import useful_widths


@dataclass(frozen=True)
class Range:
    """Widths that no group goes below and none goes above; None leaves that side open."""

    least: Mapping[str, int] | None = None
    most: Mapping[str, int] | None = None

    def of(self, name: str) -> tuple[int | None, int | None]:
        """Return a group's bounds."""
        return (self.least or {}).get(name), (self.most or {}).get(name)

    def clip(self, widths: Mapping[str, int]) -> dict[str, int]:
        """Return widths moved into the range."""
        clipped = {}
        for name, width in widths.items():
            low, high = self.of(name)
            clipped[name] = min(max(width, width if low is None else low), width if high is None else high)
        return clipped


OPEN = Range()


@dataclass(frozen=True, eq=False)
class Choice:
    """What may be chosen and what it is worth.

    Attributes:
        graph: the network's groups.
        scores: group -> one score a channel: which channels stay at a given width.
        values: group -> value at each width.
        align: widths are multiples of this where a group is wide enough; 1 leaves it to the measurements.
        limits: what else is limited: name of an option -> the most parameters that it allows.
        strategy: how the widths are found: a name in `budget.strategies.STRATEGIES`.
    """

    graph: ChannelGraph
    scores: Mapping[str, np.ndarray]
    values: Mapping[str, np.ndarray]
    align: int = 1
    limits: Mapping[str, int] = field(default_factory=dict)
    strategy: str = "latency"

    def problem(
        self,
        table: NetworkTable,
        within: Range = OPEN,
        *,
        without: Mapping[str, int] | None = None,
        by_sums: bool = True,
    ) -> Problem:
        """Return the programme over the widths worth having, at the costs in `table`.

        Args:
            table: what the layers cost.
            within: bounds on the widths.
            without: group -> a width that it is not to have.
            by_sums: as in `formulate`.
        """
        widths = self.candidates(table, within)
        for name, width in (without or {}).items():
            widths[name] = widths[name][widths[name] != width]
        return formulate(self.graph, table, widths, self.values, self.limits, by_sums=by_sums)

    def macs_problem(self, table: NetworkTable, within: Range = OPEN) -> Problem:
        """Return the programme over the same widths that budgets multiply-accumulates."""
        return formulate_macs(self.graph, self.candidates(table, within), self.values, self.limits)

    def candidates(self, table: NetworkTable, within: Range = OPEN) -> dict[str, np.ndarray]:
        """Return group -> the widths worth having, ascending."""
        widths = {}
        for group in self.graph.cuttable:
            low, high = within.of(group.name)
            possible = group.possible
            allowed = (possible % self.align == 0) | (possible == group.channels)
            allowed &= (possible >= (low or 0)) & (possible <= (group.channels if high is None else high))
            found = useful_widths(table, group.name, possible[allowed]) if allowed.any() else possible[:0]
            ends = [end for end in (low, high) if end is not None]
            widths[group.name] = np.union1d(found, ends).astype(np.int64)
        return widths

    def value(self, widths: Mapping[str, int]) -> float:
        """Return the sum of the values of the groups that may be cut, at `widths`."""
        return sum(float(self.values[group.name][widths[group.name]]) for group in self.graph.cuttable)

    def plan(self, widths: Mapping[str, int]) -> WidthPlan:
        """Return the plan that keeps the best channels at these widths."""
        return WidthPlan.from_scores(self.graph, self.scores, widths)
