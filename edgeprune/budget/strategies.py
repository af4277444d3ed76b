"""Ways to choose widths for one latency: ours, and what others do, so that they can be compared on equal terms.

| strategy | how the widths are found                                                                     |
|----------|----------------------------------------------------------------------------------------------|
| latency  | the programme: most value within the predicted latency                                       |
| flops    | the same programme, its budget multiply-accumulates instead of time                          |
| global   | all channels of all groups in one ranking by their scores; those above a threshold stay      |
| uniform  | the same share of every group                                                                |

Only the first asks the table which widths to take. The others have one number (MACs, a rank, a share), and the table
says how large it may be: the largest whose prediction is within the budget is taken. All widths are multiples of the
same `align`, all go through the same closed loop, and channels within a group are ranked alike.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Protocol

import numpy as np

from edgeprune.budget.choice import OPEN, Choice, Range
from edgeprune.budget.optimum import GAP
from edgeprune.budget.solve import LATENCY, Solution, floor, solve, too_many, unreachable
from edgeprune.errors import BudgetError, InputError, nearest
from edgeprune.graph.channels import ChannelGroup
from edgeprune.latency.predict import NetworkTable

_STEPS = 1000
"""Shares, ranks and MACs are told apart to a thousandth of their range."""

_LOOKS = range(0, _STEPS + 1, _STEPS // 20)
"""The steps that are looked at where each takes a solver's time."""


_CORRECTIONS = 6
"""So often a programme that is off the table is solved at most, ..."""

_FILLED = 0.01
"""... and no more once the budget is used up to this share, ..."""

_CORRECTING_S = 5.0
"""... or it took so long."""

_MARGIN = 0.001
"""So much of the budget is left, for how far it is off changes a little with the plan."""


class Search(Protocol):
    """Finds widths on one table, within one range.

    Attributes:
        limits: what else is limited: name of an option -> the most parameters that it allows.
    """

    limits: Mapping[str, int]

    def best(self, budget_us: float) -> Solution:
        """Return the widths that the strategy chooses for a predicted time.

        Raises:
            BudgetError: it reaches no plan that is that fast.
        """

    def fastest(self) -> Solution:
        """Return the fastest plan that the strategy reaches."""


def search(choice: Choice, table: NetworkTable, within: Range = OPEN) -> Search:
    """Return the search that `choice.strategy` names.

    Raises:
        InputError: there is no such strategy.
    """
    if choice.strategy not in STRATEGIES:
        raise InputError(
            f"strategy {choice.strategy!r} is not known{nearest(choice.strategy, STRATEGIES)}",
            remedy=f"use one of {', '.join(STRATEGIES)}",
        )
    return STRATEGIES[choice.strategy](choice, table, within)


class Latency:
    """The programme on the latency itself.

    Where it can't tell the time of a layer behind a concatenation by the sum of what comes in, it takes it as affine in
    that, and so is off the table where it is not: by 5 % for DenseNet-121 on ONNX Runtime. By how much it is off near
    its solution is seen there, and the programme's budget moved by that, until the table's own prediction fills the
    budget.

    Args:
        choice: what may be chosen.
        table: what the layers cost.
        within: bounds on the widths.
        without: group -> a width that it is not to have.
    """

    def __init__(
        self, choice: Choice, table: NetworkTable, within: Range = OPEN, *, without: Mapping[str, int] | None = None
    ) -> None:
        self.limits = choice.limits
        self.table = table
        self.problem = choice.problem(table, within, without=without)
        self._affine = partial(choice.problem, table, within, without=without, by_sums=False)

    def best(self, budget_us: float) -> Solution:
        started = time.perf_counter()
        best: Solution | None = None
        off_us = 0.0
        for _ in range(_CORRECTIONS):
            found = self._solved(budget_us + off_us, told=best is None)
            if found is None:
                break
            exact = self._exact(found)
            if exact.cost_us <= budget_us and (best is None or exact.value > best.value):
                best = exact
            off_us, before_us = found.cost_us - exact.cost_us - _MARGIN * budget_us, off_us
            settled = abs(off_us - before_us) <= 2 * _MARGIN * budget_us
            late = time.perf_counter() > started + _CORRECTING_S
            if best is not None and (settled or late or best.cost_us >= (1 - _FILLED) * budget_us):
                break
        best = best or self.fastest()
        if best.cost_us > budget_us:
            raise unreachable(budget_us, best.cost_us, self.limits)
        return replace(best, seconds=time.perf_counter() - started)

    def fastest(self) -> Solution:
        return self._exact(floor(self.problem))

    def _solved(self, budget_us: float, *, told: bool) -> Solution | None:
        """Return the programme's plan for its own budget; its fastest one where that is over it."""
        try:
            found = solve(self.problem, budget_us)
            if self.problem.by_sums and found.gap is not None and found.gap > GAP:
                self.problem = self._affine()
                found = solve(self.problem, budget_us)
            return found
        except BudgetError:
            if not told:
                return None
            fastest = floor(self.problem)
            if fastest.cost_us <= budget_us:  # there is one, but the solver found none in its time
                raise
            return fastest

    def _exact(self, found: Solution) -> Solution:
        """Return a plan with its time by the table."""
        return replace(found, cost_us=float(self.table.predict_ms([found.widths])[0]) * 1000)


class _Family(ABC):
    """A family of plans along one number: `at(0)` is the smallest, `at(_STEPS)` the whole network."""

    def __init__(self, choice: Choice, table: NetworkTable, within: Range) -> None:
        self.choice = choice
        self.limits = choice.limits
        self.table = table
        self.within = within

    @abstractmethod
    def at(self, step: int) -> Mapping[str, int]:
        """Return the widths of every group that may be cut, at a step of the family."""

    def _full(self, step: int) -> dict[str, int]:
        return {group.name: group.channels for group in self.choice.graph} | dict(self.at(step))

    def _over(self, step: int, us: float, budget_us: float) -> tuple[str, ...]:
        """Return what a step, which takes `us`, takes too much of."""
        params = self.choice.graph.params(self._full(step)) if self.limits else 0
        over = [name for name, most in self.limits.items() if params > most]
        return ((LATENCY,) if us > budget_us else ()) + tuple(over)

    def _refusal(self, step: int, over: tuple[str, ...], us: float, budget_us: float) -> BudgetError:
        """Return what to say where even the least is too much."""
        if LATENCY in over:
            return unreachable(budget_us, us, {})
        return too_many(over[0], self.limits[over[0]], self.choice.graph.params(self._full(step)))

    def _solution(self, step: int, us: float, held: tuple[str, ...], seconds: float) -> Solution:
        widths = dict(self.at(step))
        return Solution(widths, self.choice.value(widths), us, None, seconds, held)


class _Scanned(_Family):
    """Every step is looked at, because a larger one may take less time: ragged widths cost more than round ones."""

    def best(self, budget_us: float) -> Solution:
        started = time.perf_counter()
        held: tuple[str, ...] = ()
        for step in range(_STEPS, -1, -1):
            over = self._over(step, self._us[step], budget_us)
            if not over:
                return self._solution(step, self._us[step], held, time.perf_counter() - started)
            held = over
        fastest = int(np.argmin(self._us))
        over = self._over(fastest, self._us[fastest], budget_us)
        raise self._refusal(fastest, over, self._us[fastest], budget_us)

    def fastest(self) -> Solution:
        started = time.perf_counter()
        step = int(np.argmin(self._us))
        return self._solution(step, self._us[step], (), time.perf_counter() - started)

    @cached_property
    def _us(self) -> list[float]:
        times = self.table.predict_ms([self._full(step) for step in range(_STEPS + 1)]) * 1000
        return [float(one) for one in times]


class Uniform(_Scanned):
    """The same share of every group."""

    def at(self, step: int) -> Mapping[str, int]:
        share = step / _STEPS
        widths = {
            one.name: _nearest(one, share * one.channels, self.choice.align) for one in self.choice.graph.cuttable
        }
        return self.within.clip(widths)


class Global(_Scanned):
    """All channels in one ranking by their scores: the same number of the lowest goes, wherever they are."""

    def at(self, step: int) -> Mapping[str, int]:
        threshold = self._ranking[round((1 - step / _STEPS) * (len(self._ranking) - 1))]
        kept = {name: float(np.sum(scores >= threshold)) for name, scores in self._scores.items()}
        groups = self.choice.graph.cuttable
        return self.within.clip({one.name: _nearest(one, kept[one.name], self.choice.align) for one in groups})

    @cached_property
    def _scores(self) -> dict[str, np.ndarray]:
        return {one.name: np.asarray(self.choice.scores[one.name]) for one in self.choice.graph.cuttable}

    @cached_property
    def _ranking(self) -> np.ndarray:
        return np.sort(np.concatenate([*self._scores.values(), [-np.inf]]))


class Flops(_Family):
    """The programme on multiply-accumulates, over the same candidate widths.

    The largest number of them within the budget is looked for at every twentieth of the range, because more may take
    less time, and bisected from there.
    """

    def __init__(self, choice: Choice, table: NetworkTable, within: Range) -> None:
        super().__init__(choice, table, within)
        self.problem = choice.macs_problem(table, within)
        self._found: dict[int, Solution] = {}

    def best(self, budget_us: float) -> Solution:
        started = time.perf_counter()
        within = [step for step in _LOOKS if not self._over(step, self._us(step), budget_us)]
        if not within:
            fastest = min(_LOOKS, key=self._us)
            raise self._refusal(
                fastest, self._over(fastest, self._us(fastest), budget_us), self._us(fastest), budget_us
            )
        low, high = within[-1], min(within[-1] + _LOOKS.step, _STEPS + 1)
        held = self._over(high, self._us(high), budget_us) if high <= _STEPS else ()
        while high - low > 1:
            middle = (low + high) // 2
            over = self._over(middle, self._us(middle), budget_us)
            if over:
                high, held = middle, over
            else:
                low = middle
        inside = tuple(name for name in self._found[low].binding if name in self.limits)
        return self._solution(low, self._us(low), held + inside, time.perf_counter() - started)

    def fastest(self) -> Solution:
        started = time.perf_counter()
        step = min(_LOOKS, key=self._us)
        return self._solution(step, self._us(step), (), time.perf_counter() - started)

    def at(self, step: int) -> Mapping[str, int]:
        if step not in self._found:
            least, dense = self._least.cost_us, float(self.choice.graph.macs())
            try:
                found = solve(self.problem, least + (dense - least) * step / _STEPS)
            except BudgetError:
                if step:
                    raise
                found = self._least  # missed by the solver's tolerance
            self._found[step] = found
        return self._found[step].widths

    def _us(self, step: int) -> float:
        return self.table.predict(self._full(step)).ms * 1000

    @cached_property
    def _least(self) -> Solution:
        return floor(self.problem)


def _nearest(group: ChannelGroup, width: float, align: int) -> int:
    """Return the possible width next to `width`, at least one channel a part, a multiple of `align` or all."""
    choices = group.possible[group.possible > 0]
    aligned = choices[(choices % align == 0) | (choices == group.channels)]
    return int(aligned[np.argmin(np.abs(aligned - width))])


STRATEGIES: Mapping[str, Callable[[Choice, NetworkTable, Range], Search]] = {
    "latency": Latency,
    "flops": Flops,
    "global": Global,
    "uniform": Uniform,
}
