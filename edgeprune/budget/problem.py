"""Groups x candidate widths, their value and the layers' costs -> a mixed-integer programme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_array

from edgeprune.budget.amounts import macs_of, params_of
from edgeprune.budget.elimination import Elimination
from edgeprune.budget.engine_time import time_of
from edgeprune.budget.programme import Amount, Programme, Terms
from edgeprune.graph.channels import ChannelGraph
from edgeprune.latency.predict import NetworkTable

_LARGEST = 1_000_000
"""Groups are eliminated where the largest table that this takes has at most so many entries, ..."""

_TOGETHER = 3_000_000
"""... and all tables together so many."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A mixed-integer programme over the widths.

    Attributes:
        widths: group -> candidate widths, ascending.
        value: of every variable; zero for those that only carry amounts.
        cost: what is budgeted: engine time in microseconds, or multiply-accumulates.
        equalities: constraint matrix; the product with the variables equals `right`.
        right: right-hand side of the equalities.
        bounds: constraint matrix of rows that must be <= 0.
        integral: 1 for the width variables, 0 for the others.
        upper: upper bound of every variable.
        offsets: group -> its first variable.
        owners: for each variable the number of the group, or gated group, whose width it is; -1 for other variables.
        pairs: pair variables and the two width variables that each stands for, in three rows.
        elimination: of its groups one after the other; None where too much hangs together for that.
        params: the number of parameters; None where nothing limits it.
        limits: what limits them, such as `--max-params` -> the most there may be.
        by_sums: the constraints don't say all: only the elimination does.
    """

    widths: Mapping[str, np.ndarray]
    value: np.ndarray
    cost: Amount
    equalities: csr_array
    right: np.ndarray
    bounds: csr_array
    integral: np.ndarray
    upper: np.ndarray
    offsets: Mapping[str, int]
    owners: np.ndarray
    pairs: np.ndarray
    elimination: Elimination | None = None
    params: Amount | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    by_sums: bool = False

    @classmethod
    def of(cls, programme: Programme, value: np.ndarray, cost: Amount) -> Problem:
        """Return the problem of a programme as it has been put together, with a value for every variable and a cost."""
        return cls(
            widths=programme.groups,
            value=value,
            cost=cost,
            equalities=programme.matrix([row for row, _ in programme.equal]),
            right=np.array([right for _, right in programme.equal]),
            bounds=programme.matrix(programme.below),
            integral=programme.integral,
            upper=programme.upper,
            offsets=programme.offsets,
            owners=programme.owners,
            pairs=programme.pairs,
            elimination=_elimination(programme),
            by_sums=programme.has_sums,
        )

    def widths_of(self, solution: np.ndarray) -> dict[str, int]:
        """Return group -> width for a solution vector."""
        return {
            name: int(choices[int(np.argmax(solution[self.offsets[name] : self.offsets[name] + len(choices)]))])
            for name, choices in self.widths.items()
        }


def formulate(
    graph: ChannelGraph,
    table: NetworkTable,
    widths: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    limits: Mapping[str, int] | None = None,
    *,
    by_sums: bool = True,
) -> Problem:
    """Build the programme whose budget is the engine's time.

    Args:
        graph: the network's groups.
        table: what its layers cost.
        widths: group -> candidate widths, ascending; groups left out stay whole.
        values: group -> value of keeping w channels, at index w (length channels + 1).
        limits: name of a limit -> the most parameters that it allows; one more than the budget asks for constraints.
        by_sums: what many groups flow into is told by their sums, where the tables that this takes are small enough.
    """
    if by_sums and not limits:
        programme = Programme(widths, by_sums=True)
        found = _problem(programme, graph, values, time_of(programme, table), {})
        if found.elimination is not None or not found.by_sums:
            return found
    programme = Programme(widths)
    return _problem(programme, graph, values, time_of(programme, table), limits or {})


def formulate_macs(
    graph: ChannelGraph,
    widths: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    limits: Mapping[str, int] | None = None,
) -> Problem:
    """Build the same programme with multiply-accumulates as its budget."""
    programme = Programme(widths)
    return _problem(programme, graph, values, macs_of(programme, graph), limits or {})


def _elimination(programme: Programme) -> Elimination | None:
    sizes = {name: len(choices) for name, choices in programme.groups.items()}
    found = Elimination(sizes, *programme.factors())
    return found if found.largest <= _LARGEST and found.entries <= _TOGETHER else None


def _problem(
    programme: Programme,
    graph: ChannelGraph,
    values: Mapping[str, np.ndarray],
    cost: Terms,
    limits: Mapping[str, int],
) -> Problem:
    params = params_of(programme, graph) if limits else None
    value = np.zeros(programme.count)
    for name, choices in programme.groups.items():
        value[programme.chosen(name)] = values[name][choices]
    found = Problem.of(programme, value, cost.amount(programme.count))
    return replace(found, params=params.amount(programme.count) if params else None, limits=limits)
