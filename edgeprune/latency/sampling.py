"""Which whole networks to build and time, so that few builds say most; and which widths are worth choosing from.

Every network gives one point of every layer's staircase. The first ones take widths freely, to find the steps; the
later ones take only widths that the steps make worth having, since those are what a plan is made of. Either kind goes
over all widths of every group in equal parts: where a trunk's width was drawn anew for each network, ResNet-56's was
never between 2 and 7, and networks there were foretold 7 % too slow. Where other networks with the same layers were
measured before, the staircases are there already, and fewer networks are enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.latency.predict import NetworkTable

DENSE = 0
FREE_NETWORKS = 7
STEPPED_NETWORKS = 7
TOTAL_NETWORKS = 1 + FREE_NETWORKS + STEPPED_NETWORKS

FAMILIAR = (DENSE, 2, 4, 6, 9, 11, 13)
"""The networks that are measured of one whose layers are known: enough for its own scale, and for a band."""
FAMILIAR_SHARE = 0.9
"""So much of the dense network's time must lie in layers that are known ..."""
FAMILIAR_NETWORKS = 10
"""... which they are from so many networks."""

HALF_BLOCK = 4
HALF_RAGGED = 2
"""Free networks in which a group's width is made an odd multiple of `HALF_BLOCK`, which some kernels take as whole.

Seven random widths may contain none: MobileNetV2's depthwise layer at 112 x 112 was predicted at 3.6 times its time.
"""

VARIATION = 0.45
"""Largest random offset of a group from its network's level, as a share of the range, before the groups are ordered."""

MOST_WIDTHS = 16
"""A group has no more widths to choose from than this."""

LOOKED_AT = 256
"""Of a group of more widths than this, those from `FINE` on are looked at that are multiples of `HALF_BLOCK`.

No more than `MOST_WIDTHS` are kept in the end, and looking at all takes most of the time that a programme takes.
"""
FINE = 32


def numbers_of(known: NetworkTable) -> Sequence[int]:
    """Return the numbers of the networks to measure: all, or a few where other networks have the same layers."""
    return FAMILIAR if familiar_share(known) >= FAMILIAR_SHARE else range(TOTAL_NETWORKS)


def familiar_share(known: NetworkTable) -> float:
    """Return how much of the dense network's time lies in layers that enough other networks were measured with."""
    others = known.table.without(known.records)
    counts = Counter(family for one in others.records for family in {row.key.family for row in one.rows})
    rows = known.dense.rows
    us = sum(
        row.us for row in rows if counts[row.key.family] >= FAMILIAR_NETWORKS and others.source(row.key) != "assumed"
    )
    return us / max(sum(row.us for row in rows), 1e-9)


def lacking_numbers(numbers: Sequence[int], graph: ChannelGraph, known: NetworkTable, seed: int) -> list[int]:
    """Return those of the numbered networks to measure: as many as the table lacks, and none that it has.

    Devices that share the work end it in another order than they began it, so that any may be missing after a kill. A
    table that was measured before `--allow-inexact` freed some groups has nothing but the dense network: in all others
    these groups are whole too.
    """
    there = [record.widths for record in known.records]
    free = {number: numbered_plan(number, graph, known, seed).widths for number in numbers if number <= FREE_NETWORKS}
    if _narrowed(free.values(), known) - _narrowed(there, known):
        there = [known.dense.widths]
    early = [number for number, widths in free.items() if widths not in there]
    stepped = [number for number in numbers if number > FREE_NETWORKS]
    missing = max(0, len(numbers) - len(there))
    late = min(len(stepped), max(0, missing - len(early)))
    return [*early[:missing], *stepped[len(stepped) - late :]]


def _narrowed(networks: Iterable[Mapping[str, int]], known: NetworkTable) -> set[str]:
    """Return the groups that are narrower in some of the networks than in the dense one."""
    whole = known.dense.widths
    return {name for widths in networks for name, width in widths.items() if width < whole[name]}


def numbered_plan(number: int, graph: ChannelGraph, known: NetworkTable, seed: int) -> WidthPlan:
    """Return the plan of the numbered network: the dense one, then free widths, then widths on the steps.

    Each network has a level, spread evenly over the range, around which its groups' widths vary; the widths of a group
    are then spread evenly over its range too, in the order that this gives.
    """
    if number == DENSE:
        return WidthPlan.dense(graph)
    stepped = number > FREE_NETWORKS
    place, count = (number - FREE_NETWORKS, STEPPED_NETWORKS) if stepped else (number, FREE_NETWORKS)
    random = np.random.default_rng([seed, count, stepped])
    widths = {}
    for group in graph.cuttable:
        order = np.argsort(np.arange(count) / count + random.uniform(-VARIATION, VARIATION, count))
        share = (np.flatnonzero(order == place - 1)[0] + random.uniform(size=count)[place - 1]) / count
        half_ragged = not stepped and random.permutation(count)[place - 1] < HALF_RAGGED
        choices = useful_widths(known, group.name, group.possible) if stepped else group.possible[group.possible > 0]
        width = int(choices[min(int(share * len(choices)), len(choices) - 1)])
        widths[group.name] = _half_ragged(choices, width) if half_ragged else width
    return WidthPlan.from_scores(graph, {}, widths)


def _half_ragged(choices: np.ndarray, width: int) -> int:
    """Return the odd multiple of `HALF_BLOCK` next to a width; a smaller width itself, and where there is none."""
    halves = choices[choices % (2 * HALF_BLOCK) == HALF_BLOCK]
    if width < HALF_BLOCK or not len(halves):
        return width
    return int(halves[np.argmin(np.abs(halves - width))])


def useful_widths(known: NetworkTable, name: str, widths: np.ndarray) -> np.ndarray:
    """Return those of a group's `widths`, ascending, that no larger one undercuts; the largest is always among them.

    The cost is that of all layers that the group reaches, the other groups dense. Where more than `MOST_WIDTHS` are
    left, those are kept that lie evenly along the cost. Of wide groups not every width is looked at, see `LOOKED_AT`.
    """
    widths = _looked_at(widths)
    cost = group_cost(known, name, widths)
    cheapest_above = np.minimum.accumulate(cost[::-1])[::-1]
    free = np.append(cost[:-1] < cheapest_above[1:] * 0.995, True)
    widths, cost = widths[free], cost[free]
    if len(widths) > MOST_WIDTHS:
        marks = np.linspace(cost[0], cost[-1], MOST_WIDTHS)
        nearest = np.unique([int(np.argmin(np.abs(cost - mark))) for mark in marks])
        widths = widths[np.union1d(nearest, [0, len(widths) - 1])]
    return np.asarray(widths)


def _looked_at(widths: np.ndarray) -> np.ndarray:
    if len(widths) <= LOOKED_AT:
        return widths
    whole = (widths < FINE) | (widths % HALF_BLOCK == 0) | (widths == widths[-1])
    return widths[whole] if whole.sum() > MOST_WIDTHS else widths


def group_cost(known: NetworkTable, name: str, widths: np.ndarray) -> np.ndarray:
    """Return the microseconds, at each of `widths`, of all rows that the group reaches; other groups are dense."""
    whole = {group: np.array(width) for group, width in known.dense.widths.items()}
    return known.group_us(name, {**whole, name: widths}, len(widths))
