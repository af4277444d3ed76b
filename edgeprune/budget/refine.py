"""Closed loop: solve, build, measure on the device, correct, solve again, until the network is within the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeprune.budget.problem import Problem, formulate
from edgeprune.budget.solve import Solution, floor, solve
from edgeprune.errors import BudgetError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.bench import Bench
from edgeprune.latency.measure import LONG
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import NetworkSource, measure_network, reference_of, useful_widths
from edgeprune.latency.table import TableStore
from edgeprune.progress import SILENT, Progress

AIM = 0.98
"""Share of the budget that a plan is made for: the rest is for the spread of the final measurement."""

ENOUGH = 0.96
"""A measured plan that uses this share of the budget is not improved further."""


@dataclass(frozen=True)
class Round:
    """One plan that was built and measured."""

    plan: WidthPlan
    solution: Solution
    predicted_ms: float
    measured_ms: float


@dataclass(frozen=True)
class Refined:
    """What the closed loop ended with.

    Attributes:
        chosen: the round of most value that was measured within the budget; None where none was.
        rounds: all of them.
        table: the table with what the rounds added.
        floor_ms: the fastest that any plan is predicted to be.
    """

    chosen: Round | None
    rounds: tuple[Round, ...]
    table: NetworkTable
    floor_ms: float


@dataclass(frozen=True, eq=False)
class Choice:
    """What may be chosen and what it is worth.

    Attributes:
        graph: the network's groups.
        scores: group -> one score a channel: which channels stay at a given width.
        values: group -> value at each width.
        align: widths are multiples of this where a group is wide enough; 1 leaves it to the measurements.
    """

    graph: ChannelGraph
    scores: Mapping[str, np.ndarray]
    values: Mapping[str, np.ndarray]
    align: int = 1

    def problem(self, table: NetworkTable) -> Problem:
        """Return the programme over the widths worth having, at the costs in `table`."""
        widths = {}
        for group in self.graph:
            if group.exact:
                found = useful_widths(table, self.graph, group.name)
                aligned = found[(found % self.align == 0) | (found == group.channels)]
                widths[group.name] = aligned
        return formulate(self.graph, table, widths, self.values)

    def plan(self, widths: Mapping[str, int]) -> WidthPlan:
        """Return the plan that keeps the best channels at these widths."""
        return WidthPlan.from_scores(self.graph, self.scores, widths)


@dataclass
class _State:
    table: NetworkTable
    rounds: list[Round] = field(default_factory=list)

    def bias(self, budget_ms: float) -> float:
        """Measured over predicted for the network nearest the budget: what the table still gets wrong there."""
        if not self.rounds:
            return 1.0
        near = min(self.rounds, key=lambda one: abs(one.measured_ms - budget_ms))
        return near.measured_ms / self.table.predict(near.plan.widths).ms

    def best_within(self, budget_ms: float) -> Round | None:
        within = [one for one in self.rounds if one.measured_ms <= budget_ms]
        return max(within, key=lambda one: one.solution.value, default=None)


def refine(
    choice: Choice,
    table: NetworkTable,
    source: NetworkSource,
    bench: Bench,
    store: TableStore,
    budget_ms: float,
    *,
    rounds: int = 4,
    progress: Progress = SILENT,
) -> Refined:
    """Find the plan of most value whose network was itself measured within the budget.

    Every measured network joins the table, so each solution rests on measurements closer to it than the one before.

    Args:
        choice: what may be chosen.
        table: what the layers cost.
        source: the network as ONNX at any plan.
        bench: the device.
        store: where measurements are kept.
        budget_ms: the budget, where the dense network takes what the table says.
        rounds: how many networks are built at most.
        progress: where to show it.

    Raises:
        BudgetError: the budget is under the floor.
    """
    state = _State(table)
    with progress.step("closing the loop on the device", rounds) as step:
        for number in range(rounds):
            problem = choice.problem(state.table)
            try:
                solution = _solved(problem, budget_ms, AIM * budget_ms / state.bias(budget_ms), state)
            except BudgetError:
                if state.rounds:
                    break
                raise
            plan = choice.plan(solution.widths)
            if any(one.plan == plan for one in state.rounds):
                break
            predicted = state.table.predict(plan.widths).ms
            reference = reference_of(state.table, source)
            record = measure_network(source, plan, bench, state.table.network, reference, rule=LONG)
            state.table = NetworkTable(store.add(state.table.table, record), state.table.network, state.table.nodes)
            state.rounds.append(Round(plan, solution, predicted, record.engine_ms))
            step.advance(note=f"round {number + 1}: {record.engine_ms:.4g} ms of {budget_ms:.4g} ms")
            if ENOUGH * budget_ms <= record.engine_ms <= (1 + AIM) / 2 * budget_ms:
                break
    lowest = floor(choice.problem(state.table)).cost_us / 1000
    return Refined(state.best_within(budget_ms), tuple(state.rounds), state.table, lowest)


def _solved(problem: Problem, budget_ms: float, aim_ms: float, state: _State) -> Solution:
    """Solve for `aim_ms`; where the aim alone is under the floor, but not the budget, take the fastest plan."""
    try:
        return solve(problem, aim_ms * 1000)
    except BudgetError:
        fastest = floor(problem)
        if fastest.cost_us / 1000 * state.bias(budget_ms) <= budget_ms:
            return fastest
        raise
