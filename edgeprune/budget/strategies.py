"""Ways to choose widths for one latency: ours, and what others do, so that they can be compared on equal terms.

| strategy | how the widths are found                                                                     |
|----------|----------------------------------------------------------------------------------------------|
| latency  | the programme: most value within the predicted latency                                       |
| flops    | the same programme, its budget multiply-accumulates instead of time                          |
| global   | all channels of all groups in one ranking by their scores; those above a threshold stay      |
| uniform  | the same share of every group                                                                |

Only the first asks the table which widths to take. The others have one number (MACs, a rank, a share), and the table
says how large it may be: it is bisected until the prediction just meets the budget. All widths are multiples of the
same `align`, all go through the same closed loop, and channels within a group are ranked alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np

from edgeprune.budget.choice import OPEN, Choice, Range
from edgeprune.budget.solve import LATENCY, Solution, floor, solve, too_many, unreachable
from edgeprune.errors import BudgetError, InputError, nearest
from edgeprune.graph.channels import ChannelGroup
from edgeprune.latency.predict import NetworkTable

_STEPS = 1000
"""Shares, ranks and MACs are told apart to a thousandth of their range."""


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


class Exact:
    """The programme on the latency itself."""

    def __init__(self, choice: Choice, table: NetworkTable, within: Range) -> None:
        self.limits = choice.limits
        self.problem = choice.problem(table, within)

    def best(self, budget_us: float) -> Solution:
        return solve(self.problem, budget_us)

    def fastest(self) -> Solution:
        return floor(self.problem)


class _Bisected:
    """A family of plans along one number: `at(0)` is the smallest, `at(_STEPS)` the whole network."""

    def __init__(self, choice: Choice, table: NetworkTable, within: Range) -> None:
        self.choice = choice
        self.limits = choice.limits
        self.table = table
        self.within = within

    def at(self, step: int) -> Mapping[str, int]:
        """Return the widths of every group that may be cut, at a step of the family."""
        raise NotImplementedError

    def best(self, budget_us: float) -> Solution:
        """Return the last plan before the first step that goes over the budget or a limit, as bisection finds it."""
        started = time.perf_counter()
        low, high = 0, _STEPS + 1
        held: tuple[str, ...] = self._exceeded(0, budget_us)
        if LATENCY in held:
            raise unreachable(budget_us, self._us(0), {})
        for name in held:
            raise too_many(name, self.limits[name], self._params(0))
        while high - low > 1:
            middle = (low + high) // 2
            exceeded = self._exceeded(middle, budget_us) if middle <= _STEPS else ()
            if exceeded:
                high, held = middle, exceeded
            else:
                low = middle
        return self._solution(low, held, time.perf_counter() - started)

    def fastest(self) -> Solution:
        started = time.perf_counter()
        return self._solution(0, (), time.perf_counter() - started)

    def _exceeded(self, step: int, budget_us: float) -> tuple[str, ...]:
        """Return what a step takes too much of."""
        params = self._params(step) if self.limits else 0
        over = [name for name, most in self.limits.items() if params > most]
        return ((LATENCY,) if self._us(step) > budget_us else ()) + tuple(over)

    def _params(self, step: int) -> int:
        return self.choice.graph.params(self._full(step))

    def _us(self, step: int) -> float:
        return self.table.predict(self._full(step)).ms * 1000

    def _full(self, step: int) -> dict[str, int]:
        return {group.name: group.channels for group in self.choice.graph} | dict(self.at(step))

    def _solution(self, step: int, held: tuple[str, ...], seconds: float) -> Solution:
        widths = dict(self.at(step))
        return Solution(widths, self.choice.value(widths), self._us(step), None, seconds, held)


class Uniform(_Bisected):
    """The same share of every group."""

    def at(self, step: int) -> Mapping[str, int]:
        share = step / _STEPS
        widths = {
            one.name: _nearest(one, share * one.channels, self.choice.align) for one in self.choice.graph.cuttable
        }
        return self.within.clip(widths)


class Global(_Bisected):
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


class Flops(_Bisected):
    """The programme on multiply-accumulates, over the same candidate widths."""

    def __init__(self, choice: Choice, table: NetworkTable, within: Range) -> None:
        super().__init__(choice, table, within)
        self.problem = choice.macs_problem(table, within)
        self._found: dict[int, Solution] = {}

    def at(self, step: int) -> Mapping[str, int]:
        if step not in self._found:
            least, dense = self._least.cost_us, float(self.choice.graph.macs())
            try:
                found = solve(self.problem, least + (dense - least) * step / _STEPS)
            except BudgetError:  # the least itself, missed by the solver's tolerance
                found = self._least
            self._found[step] = found
        return self._found[step].widths

    def _solution(self, step: int, held: tuple[str, ...], seconds: float) -> Solution:
        found = super()._solution(step, held, seconds)
        inside = self._found[step].binding if step in self._found else ()
        return replace(found, binding=held + tuple(name for name in inside if name in self.limits))

    @cached_property
    def _least(self) -> Solution:
        return floor(self.problem)


def _nearest(group: ChannelGroup, width: float, align: int) -> int:
    """Return the possible width next to `width`, at least one channel a part, a multiple of `align` or all."""
    choices = group.possible[group.possible > 0]
    aligned = choices[(choices % align == 0) | (choices == group.channels)]
    return int(aligned[np.argmin(np.abs(aligned - width))])


STRATEGIES: Mapping[str, Callable[[Choice, NetworkTable, Range], Search]] = {
    "latency": Exact,
    "flops": Flops,
    "global": Global,
    "uniform": Uniform,
}
