"""Parameters and multiply-accumulates of a plan, as amounts of the programme, though they are products of widths.

A product over dimensions with at most two open groups in all is written down for every pair of widths. Where many
groups flow into one, it is linear in the programme's inflow at each width of that one; where many flow into many, it is
split into such products. All that is exact. Three open dimensions of more than two groups are the one case that is not:
the one of most groups counts as whole, so that the amount is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeprune.budget.programme import Programme, Terms
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.layers import Axis

WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
"""Bytes of one weight at a precision."""


def limits(max_params: int | None, max_size: int | None, precision: str) -> dict[str, int]:
    """Return name of an option -> the most parameters that it allows.

    Args:
        max_params: the most parameters; None sets no limit.
        max_size: the most bytes that the weights take at `precision`; None sets no limit.
        precision: of the engine.
    """
    sizes = None if max_size is None else max_size // WEIGHT_BYTES[precision]
    given = {"--max-params": max_params, "--max-size": sizes}
    return {name: most for name, most in given.items() if most is not None}


def params_of(programme: Programme, graph: ChannelGraph) -> Terms:
    """Return the number of the parameters' entries, as `ChannelGraph.params` counts them."""
    terms = Terms()
    closed = _closed(programme, graph)
    for axes in graph.parameters():
        add_product(programme, terms, [axis.fix(closed) for axis in axes])
    return terms


def macs_of(programme: Programme, graph: ChannelGraph) -> Terms:
    """Return the multiply-accumulates of one inference, as `ChannelGraph.macs` counts them."""
    terms = Terms()
    closed = _closed(programme, graph)
    for layer in graph.layers:
        add_product(programme, terms, [axis.fix(closed) for axis in layer.axes], layer.positions)
    return terms


def add_product(programme: Programme, terms: Terms, axes: Sequence[Axis], factor: float = 1.0) -> None:
    """Add `factor` times the product of the dimensions' sizes to `terms`."""
    factor *= math.prod(axis.fixed for axis in axes if not axis.parts)
    free = sorted((axis for axis in axes if axis.parts), key=lambda axis: len(axis.parts))
    names = sorted({name for axis in free for name in axis.parts})
    if not factor:
        return
    if not free:
        terms.constant += factor
    elif len(free) == 1:
        terms.constant += factor * free[0].fixed
        for name, each in free[0].parts.items():
            terms.add(programme.chosen(name), factor * each * programme.widths[name])
    elif len(names) == 1:
        terms.add(programme.chosen(names[0]), factor * _sizes(free, {names[0]: programme.widths[names[0]]}))
    elif len(names) == 2:
        one, other = names
        grid = {one: programme.widths[one][:, None], other: programme.widths[other][None, :]}
        terms.add(programme.pair(one, other), factor * _sizes(free, grid))
    elif len(free) > 2:
        add_product(programme, terms, free[:-1], factor * programme.range(free[-1])[1])
    else:
        _many(programme, terms, free[0], free[1], factor)


def _many(programme: Programme, terms: Terms, few: Axis, many: Axis, factor: float) -> None:
    """Add the product of two dimensions of three or more groups: a part of `few` at a time."""
    add_product(programme, terms, [Axis(few.fixed), many], factor)
    for name, each in few.parts.items():
        own = Axis(0, {name: each})
        rest = Axis(many.fixed, {group: count for group, count in many.parts.items() if group != name})
        if name in many.parts:
            add_product(programme, terms, [own, Axis(0, {name: many.parts[name]})], factor)
        if len(rest.parts) < 2:
            add_product(programme, terms, [own, rest], factor)
            continue
        sizes = factor * each * programme.widths[name]
        terms.add(programme.chosen(name), sizes * programme.range(rest)[0])
        terms.add(programme.inflow(rest, name), sizes)


def _sizes(axes: Sequence[Axis], widths: dict[str, np.ndarray]) -> np.ndarray:
    """Return the product of the dimensions at `widths`, broadcast against each other."""
    product = np.ones(())
    for axis in axes:
        product = product * (axis.fixed + sum(each * widths[name] for name, each in axis.parts.items()))
    return product


def _closed(programme: Programme, graph: ChannelGraph) -> dict[str, int]:
    """Return the sizes of the groups that are not up for choice."""
    return {group.name: group.channels for group in graph if group.name not in programme.widths}
