"""What LAPP prunes in a network: the layers with a threshold, and what they cost at any width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.errors import BudgetError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.pruning.moments import is_plain
from edgeprune.training.bypass import bypassed
from edgeprune.training.thresholds import Cost
from edgeprune.units import format_percent


@dataclass(frozen=True)
class Unit:
    """One layer with a threshold: where its filters are, the norms that are masked with it, and how few may be left."""

    layer: str
    norms: tuple[str, ...]
    floor: int


def prunable(model: nn.Module, graph: ChannelGraph, bypass: str) -> tuple[str, ...]:
    """Return the convolutions that get a threshold: not grouped, not the first of the network.

    Those with a kernel of 1x1 only without bypasses, which would cost as much as they do, and those that lose a border
    too: their bypass does not.
    """
    modules = dict(model.named_modules())
    order = [layer.name for layer in graph.layers if "#" not in layer.name]
    convs = [name for name in order if isinstance(modules.get(name), nn.Conv2d)]
    shared = {layer.name.partition("#")[0] for layer in graph.layers if "#" in layer.name}
    found = []
    for name in convs[1:]:
        conv: Any = modules[name]
        fits = bypass == "none" or (max(conv.kernel_size) > 1 and _keeps_border(conv))
        if fits and conv.groups == 1 and name not in shared and is_plain(conv):
            found.append(name)
    return tuple(found)


def _keeps_border(conv: Any) -> bool:
    """Whether a 1x1 convolution of the same stride gives as many positions, but for sizes that the stride cuts off."""
    if isinstance(conv.padding, str):
        return bool(conv.padding == "same")
    windows = zip(conv.kernel_size, conv.dilation, conv.padding, conv.stride, strict=True)
    return all(0 <= gap * (size - 1) - 2 * pad < step for size, gap, pad, step in windows)


def inner_units(model: nn.Module, graph: ChannelGraph) -> dict[str, Unit]:
    """Return the groups that one convolution with a threshold makes, and nothing else is added to.

    Depthwise convolutions may pass the channels on, where a norm behind each of them masks what they add.
    """
    layers, found, norm_of = bypassed(model), {}, dict(graph.foldable)
    for group in graph.cuttable:
        makers = {slot.module for slot in group.slots if graph.outputs.get(slot.tensor) == slot.dim}
        own = [name for name in layers if f"{name}.conv" in makers]
        rest = {maker for maker in makers for name in own if not maker.startswith(f"{name}.")}
        rest -= {maker for maker in rest if _is_depthwise(model.get_submodule(maker)) and maker in norm_of}
        if len(own) == 1 and not rest and group.parts == 1:
            norms = [name for name in group.modules if not name.startswith(f"{own[0]}.")]
            norms = [name for name in norms if isinstance(model.get_submodule(name), _BatchNorm)]
            # A norm over more than the group's channels can't be masked as a whole.
            if norms and all(graph.shapes[f"{name}.running_mean"] == (group.channels,) for name in norms):
                found[group.name] = Unit(own[0], tuple(norms), max(1, group.least))
    return found


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels


def filter_macs(graph: ChannelGraph, dense_widths: Mapping[str, int], dense: int) -> Cost:
    """Return the cost in MACs where filters go and widths stay: each filter costs the same."""
    whole = graph.macs()
    layers = {layer.name: layer.macs({group.name: group.channels for group in graph}) for layer in graph.layers}
    each = {name: layers[f"{name}.conv"] / width for name, width in dense_widths.items()}
    slopes = {name: one / dense for name, one in each.items()}

    def cost(widths: Mapping[str, int]) -> tuple[float, Mapping[str, float]]:
        gone = sum(each[name] * (dense_widths[name] - width) for name, width in widths.items())
        return (whole - gone) / dense, slopes

    return cost


def channel_macs(graph: ChannelGraph, dense: int) -> Cost:
    """Return the cost in MACs where channels go: a layer costs what comes in times what goes out."""

    def cost(widths: Mapping[str, int]) -> tuple[float, Mapping[str, float]]:
        full = {group.name: group.channels for group in graph} | dict(widths)
        slopes = dict.fromkeys(full, 0.0)
        total = 0
        for layer in graph.layers:
            macs = layer.macs(full)
            total += macs
            for axis in layer.axes:
                for group, per_channel in axis.parts.items():
                    slopes[group] += per_channel * macs / max(1, axis.width(full)) / dense
        return total / dense, slopes

    return cost


def refuse_unreachable(
    model: nn.Module, units: Mapping[str, Unit], cost: Cost, target: float, removes: str, bypass: str
) -> None:
    """Refuse a target that even the fewest filters miss, before anything is trained.

    Raises:
        BudgetError: with what LAPP may prune there, and what would reach further.
    """
    least = cost({name: unit.floor for name, unit in units.items()})[0]
    if least <= target:
        return
    ways = [f"ask for {format_percent(least)} or more"]
    ways += ["--bypass depthwise or none"] * (bypass != "none")
    ways += ["--removes channels"] * (removes == "filters")
    raise BudgetError(
        f"LAPP has thresholds in {len(units)} layers of {type(model).__name__} ({', '.join(units)}); with the fewest "
        f"{removes} there it still costs {format_percent(least)} of the dense network"
        f"{', its bypasses included' * (bypass != 'none')}, and {format_percent(target)} were asked for",
        remedy=f"{', or '.join(ways)}, or --method rni or slimming, which reach all groups",
    )
