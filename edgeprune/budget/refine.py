"""Closed loop: solve, build, measure on the device, correct, solve again, until the network is within the budget.

The first plan is the best that the table promises. Its measurement joins the table; where the network came out far
from the budget, the next plan is free again. Once a network is near the budget, the next plan only widens it (or only
narrows it): what differs is small, so what the prediction misses is small, and the loop closes in on the budget instead
of jumping to the next plan that the table flatters. What one measurement happens to say is not believed at once: how
far the table is off comes from all networks near the budget, and while rounds are left, the plan at the aim is measured
a second time.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgeprune.budget.choice import OPEN, Choice, Range
from edgeprune.budget.solve import Solution, unreachable
from edgeprune.budget.strategies import search
from edgeprune.errors import BudgetError
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.bench import Bench
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import NetworkSource, record_of, reference_of, time_networks
from edgeprune.latency.rule import LONG
from edgeprune.latency.sessions import reconciled
from edgeprune.latency.store import TableStore
from edgeprune.progress import SILENT, Progress
from edgeprune.units import format_ms

AIM = 0.985
"""Share of the budget that a plan is made for: the rest is for the error of the final measurement."""

ENOUGH = 0.97
"""A measured plan that uses this share of the budget is not improved further."""

SAFE = 0.993
"""A plan measured above this share of the budget may be measured over it the next time."""

TIMES_ENOUGH = 2
"""A plan at the aim that was timed so many times ends the loop."""

TO_FILL = 4
"""So many measurements are taken to use more of the budget; more than that only until a network is within it."""

NEAR = 0.15
"""A network measured this near to the aim, relatively, is changed in one direction only."""


@dataclass(frozen=True)
class MeasuredPlan:
    """A plan whose network was built and timed.

    Attributes:
        plan: the widths.
        solution: what the solver said of it.
        predicted_ms: before it was measured.
        measured_ms: from all the times that it was timed, where the dense network takes what the table says.
        times: how often it was timed.
    """

    plan: WidthPlan
    solution: Solution
    predicted_ms: float
    measured_ms: float
    times: int


@dataclass(frozen=True)
class Refined:
    """What the closed loop ended with.

    Attributes:
        chosen: the plan of most value that was measured within the budget; None where none was.
        networks: all plans that were measured.
        measurements: how many that took.
        table: the table with what these added.
        floor_ms: the fastest that any plan is predicted to be.
    """

    chosen: MeasuredPlan | None
    networks: tuple[MeasuredPlan, ...]
    measurements: int
    table: NetworkTable
    floor_ms: float


@dataclass
class _State:
    table: NetworkTable
    source: NetworkSource
    bench: Bench
    store: TableStore
    progress: Progress = SILENT
    networks: list[MeasuredPlan] = field(default_factory=list)
    timings: list[dict[int, float]] = field(default_factory=list)

    def measure(self, plan: WidthPlan, solution: Solution, goal_ms: float) -> None:
        """Build and time a plan, beside the dense network and the plan so far nearest the goal."""
        number = next((at for at, one in enumerate(self.networks) if one.plan == plan), len(self.networks))
        others = [one for one in self.networks if one.plan != plan]
        near = min(others, key=lambda one: abs(one.measured_ms - goal_ms), default=None)
        predicted_ms = self.table.predict(plan.widths).ms
        timed = time_networks(
            self.bench,
            {"network": self.source.at(plan)},
            reference_of(self.table, self.source),
            beside={"near": self.source.at(near.plan)} if near else {},
            rule=LONG,
            progress=self.progress,
        )
        timing = {number: timed["network"].engine.median_ms}
        if near:
            timing[self.networks.index(near)] = timed["near"].engine.median_ms
        self.timings.append(timing)
        if number == len(self.networks):
            self.networks.append(MeasuredPlan(plan, solution, predicted_ms, 0.0, 0))
        counts = Counter(at for timing in self.timings for at in timing)
        for at, measured_ms in reconciled(self.timings).items():
            self.networks[at] = replace(self.networks[at], measured_ms=measured_ms, times=counts[at])
        whole = self.table.dense.widths
        if {**whole, **plan.widths} == whole:
            return  # the table's scale stays what it was settled to be
        record = record_of(timed["network"], plan, self.source.nodes, self.table.network)
        record = replace(record.scaled(self.networks[number].measured_ms / record.engine_ms), settled=True)
        self.table = NetworkTable(self.store.add(self.table.table, record), self.table.network, self.table.nodes)

    def nearest(self, goal_ms: float) -> MeasuredPlan | None:
        return min(self.networks, key=lambda one: abs(one.measured_ms - goal_ms), default=None)

    def aim(self, goal_ms: float, between: tuple[MeasuredPlan, MeasuredPlan] | None = None) -> float:
        """Return the prediction at which a network is expected to be measured at `goal_ms`.

        By interpolation `between` two networks, or where none is near between the nearest under the goal and over it;
        else by the mean ratio of measured to predicted over the networks near the goal, or of the nearest.
        """
        nearest = self.nearest(goal_ms)
        if nearest is None:
            return goal_ms
        near = [one for one in self.networks if _is_near(one, goal_ms)]
        between = between or (None if near else self._around(goal_ms, self.networks))
        if between:
            low, high = (self.table.predict(one.plan.widths).ms for one in between)
            share = (goal_ms - between[0].measured_ms) / (between[1].measured_ms - between[0].measured_ms)
            return low + share * (high - low)
        ratios = [one.measured_ms / self.table.predict(one.plan.widths).ms for one in near or [nearest]]
        return goal_ms / statistics.geometric_mean(ratios)

    def bracket(self, goal_ms: float) -> tuple[MeasuredPlan, MeasuredPlan] | None:
        """Return the nearest networks under and over the goal, if the one is the other with some groups narrower."""
        pair = self._around(goal_ms, [one for one in self.networks if _is_near(one, goal_ms)])
        if pair and all(width <= pair[1].plan.widths[name] for name, width in pair[0].plan.widths.items()):
            return pair
        return None

    def _around(self, goal_ms: float, networks: Sequence[MeasuredPlan]) -> tuple[MeasuredPlan, MeasuredPlan] | None:
        """Return of some networks the nearest under and over the goal, if they are predicted in that order too."""
        ordered = sorted(networks, key=lambda one: one.measured_ms)
        under = [one for one in ordered if one.measured_ms <= goal_ms][-1:]
        over = [one for one in ordered if one.measured_ms > goal_ms][:1]
        if not under or not over:
            return None
        low, high = (self.table.predict(one.plan.widths).ms for one in (under[0], over[0]))
        return (under[0], over[0]) if low < high else None

    def best_within(self, budget_ms: float) -> MeasuredPlan | None:
        within = self.within(SAFE * budget_ms) or self.within(budget_ms)
        return max(within, key=lambda one: one.solution.value, default=None)

    def within(self, limit_ms: float) -> list[MeasuredPlan]:
        return [one for one in self.networks if one.measured_ms <= limit_ms]


def refine(
    choice: Choice,
    table: NetworkTable,
    source: NetworkSource,
    bench: Bench,
    store: TableStore,
    budget_ms: float,
    *,
    rounds: int = 6,
    drift: float = 1.0,
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
        rounds: how many measurements are taken at most; more than `TO_FILL` only until a network is within the budget.
        drift: factor from the table's times to those of now, for what is shown.
        progress: where to show it.

    Raises:
        BudgetError: the budget is under the floor.
    """
    state = _State(table, source, bench, store, progress)
    goal_ms = AIM * budget_ms
    with progress.step("closing the loop on the device", rounds) as step:
        for number in range(rounds):
            if number >= TO_FILL and state.within(SAFE * budget_ms):
                break
            nearest = state.nearest(goal_ms)
            if nearest is not None and ENOUGH * budget_ms <= nearest.measured_ms <= SAFE * budget_ms:
                plan, solution = nearest.plan, nearest.solution
            else:
                try:
                    solution = _next(choice, state, budget_ms, drift)
                except BudgetError:
                    if state.networks:
                        break
                    raise
                plan = choice.plan(solution.widths)
            if any(one.plan == plan and one.times >= TIMES_ENOUGH for one in state.networks):
                break
            state.measure(plan, solution, goal_ms)
            measured_ms = next(one.measured_ms for one in state.networks if one.plan == plan)
            step.advance(note=f"round {number + 1}: {format_ms(measured_ms * drift)} of {format_ms(budget_ms * drift)}")
    lowest = search(choice, state.table).fastest().cost_us / 1000
    return Refined(state.best_within(budget_ms), tuple(state.networks), len(state.timings), state.table, lowest)


def _next(choice: Choice, state: _State, budget_ms: float, drift: float) -> Solution:
    """Return the solution to build next: first the whole network, if it takes no more than the budget.

    It is the fastest one where the aim alone is under the floor, but not the budget.

    Raises:
        BudgetError: the budget is under the floor, both as `drift` has them now.
    """
    if not state.networks and state.table.dense.engine_ms <= SAFE * budget_ms:  # nothing has to go for the budget
        whole_us = state.table.predict(state.table.dense.widths).ms * 1000
        return search(choice, state.table).best(2 * whole_us)
    goal_ms = AIM * budget_ms
    near = state.nearest(goal_ms)
    between = state.bracket(goal_ms)
    if between:
        within = Range(*(one.plan.widths for one in between))
    elif near is not None and _is_near(near, goal_ms):
        under = near.measured_ms <= goal_ms
        within = Range(least=near.plan.widths) if under else Range(most=near.plan.widths)
    else:
        within = OPEN
    found = search(choice, state.table, within)
    try:
        return found.best(state.aim(goal_ms, between) * 1000)
    except BudgetError:
        fastest = found.fastest()
        expected_us = fastest.cost_us * budget_ms / state.aim(budget_ms)
        if expected_us <= budget_ms * 1000:
            return fastest
        raise unreachable(budget_ms * drift * 1000, expected_us * drift, found.limits) from None


def _is_near(one: MeasuredPlan, goal_ms: float) -> bool:
    return abs(one.measured_ms / goal_ms - 1) <= NEAR
