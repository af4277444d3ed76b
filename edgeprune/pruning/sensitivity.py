"""What a cut costs, measured: one group made narrower, the layers that read it refitted, the change of the outputs.

A criterion's scores say which channels of a group matter least, and summed up they guess what a width costs. The guess
is good within a group and poor between groups: errors that point one way at all positions add up in the pooling, and
what is behind a layer dampens or amplifies them. So two widths of each group are really cut and refitted, and the mean
squared change of the outputs, on images that the refit has not seen, scales the guess; between the two the scale is
interpolated. Costs of several groups are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph, ChannelGroup
from edgeprune.graph.inputs import eval_mode
from edgeprune.graph.plan import WidthPlan
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.compensate import Refit, work_of_a_fit
from edgeprune.pruning.slim import slim
from edgeprune.records import append_lines, read_lines

SCHEMA = "edgeprune.sensitivity/2"

WORK = 8e12
"""Multiply-accumulates that all cuts may take together: enough for a ResNet-18 at 224 x 224, not for a ResNet-50."""

EFFORTS = ((128, None), (128, 2), (64, None), (64, 2), (32, 2))
"""Images for the refit (and as many others to see what it left), and how many of the layers behind a cut are refitted:
the first that `WORK` allows for. Where it allows for none, the scores are left to guess.
"""

Losses = dict[str, dict[int, float]]


def measured_losses(
    model: nn.Module,
    graph: ChannelGraph,
    scores: Mapping[str, np.ndarray],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    cache: Path | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Losses:
    """Return group -> width -> mean squared change of the outputs when that group alone has that width.

    Args:
        model: the network; left alone.
        graph: its channel groups.
        scores: group -> one score a channel: the lowest go first.
        batches: (images, labels) pairs; the labels are not looked at.
        cache: JSON lines of an earlier call with the same arguments; what is missing is measured and appended.
        seed: of the refits.
        progress: where to show it.

    Returns:
        Two widths a group that may be cut; nothing where the network is too large for that (`WORK`).
    """
    groups = [group for group in graph.cuttable if _marks(group)]
    images = torch.cat([batch for batch, _ in batches])
    effort = _affordable(model, graph, sum(len(_marks(group)) for group in groups), len(images) // 2)
    if effort is None:
        progress.say("what cuts cost is not measured: that would take too long on a network of this size; scores tell")
        return {}
    count, reach = effort
    fitted, judged = images[:count], images[count : 2 * count]
    known: Losses = {}
    for line in read_lines(cache) if cache else ():
        if line.get("schema") == SCHEMA:
            known[line["group"]] = {int(width): float(loss) for width, loss in line["losses"].items()}
    if all(group.name in known for group in groups):
        return known
    with eval_mode(model), torch.no_grad(), progress.step("measuring what cuts cost", len(groups)) as step:
        step.advance(len(known))
        dense = model(judged)
        refit = Refit(model, graph, [fitted], seed=seed)
        for group in groups:
            if group.name in known:
                continue
            losses = {}
            for width in _marks(group):
                plan = WidthPlan.from_scores(graph, scores, {group.name: width})
                small = slim(model, plan, check=False)
                refit.fit(small, plan, reach=reach)
                losses[width] = float((small.eval()(judged) - dense).square().sum(1).mean())
            known[group.name] = losses
            if cache:
                append_lines(cache, [{"schema": SCHEMA, "group": group.name, "losses": losses}])
            step.advance()
    return known


def values_from_losses(
    graph: ChannelGraph, guessed: Mapping[str, np.ndarray], losses: Mapping[str, Mapping[int, float]]
) -> dict[str, np.ndarray]:
    """Return group -> value of each width (length channels + 1): what is not lost at it.

    Args:
        graph: the channel groups.
        guessed: the same from scores alone, ascending: the shape of what is lost between the measured widths.
        losses: group -> width -> what is lost, for every group that may be narrower.

    Returns:
        Values that never fall with the width; those of all groups together sum to 1 in the dense network.
    """
    lost = {}
    for group in graph.cuttable:
        if group.name not in losses:
            continue  # it has but its full width
        guess = guessed[group.name][-1] - guessed[group.name]
        marks = np.array(sorted(losses[group.name]))
        found = np.array([losses[group.name][int(mark)] for mark in marks])
        scale = np.log(np.maximum(found, 1e-12) / np.maximum(guess[marks], 1e-12))
        curve = guess * np.exp(np.interp(np.arange(group.channels + 1), marks, scale))
        for mark, loss in zip(marks, np.maximum.accumulate(found[::-1])[::-1], strict=True):
            curve[:mark] = np.maximum(curve[:mark], loss)
            curve[mark:] = np.minimum(curve[mark:], loss)
        lost[group.name] = np.maximum.accumulate(curve[::-1])[::-1]
    total = sum(float(one[0]) for one in lost.values()) or 1.0
    rest = {group.name: np.zeros(group.channels + 1) for group in graph if group.name not in lost}
    return {**{name: (one[0] - one) / total for name, one in lost.items()}, **rest}


def _affordable(model: nn.Module, graph: ChannelGraph, cuts: int, images: int) -> tuple[int, int | None] | None:
    """Return the first of `EFFORTS` that so many cuts may take, with no more than so many images."""
    for most, reach in EFFORTS:
        count = min(most, images)
        each = work_of_a_fit(model, graph, count, reach) + graph.macs() * count
        if count >= EFFORTS[-1][0] and cuts * each <= WORK:
            return count, reach
    return None


def _marks(group: ChannelGroup) -> Sequence[int]:
    """Return the widths to measure: the least, and about a half; none where the group has but its full width."""
    widths = group.possible[group.possible < group.channels]
    if not len(widths):
        return ()
    half = widths[np.argmin(np.abs(widths - group.channels / 2))]
    return sorted({int(widths[0]), int(half)})
