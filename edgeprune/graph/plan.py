"""WidthPlan: the channels that each group keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgeprune.errors import InputError
from edgeprune.graph.channels import ChannelGraph, ChannelGroup
from edgeprune.graph.cuts import Cuts

SCHEMA = "edgeprune.plan/1"


@dataclass(frozen=True, eq=False)
class WidthPlan:
    """Which channels of which group stay. Groups that `kept` leaves out stay whole.

    >>> import torch, edgeprune
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 4, 1))
    >>> plan = edgeprune.WidthPlan.uniform(edgeprune.trace(network, torch.zeros(1, 3, 5, 5)), keep=0.25)
    >>> plan.widths, plan.params
    ({'0': 2}, 20)

    Attributes:
        graph: the network that the plan is for.
        kept: group -> indices of the channels that stay, ascending; none only where a group is removable.
    """

    graph: ChannelGraph
    kept: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        kept = {name: _checked(self.graph.group(name), indices) for name, indices in self.kept.items()}
        object.__setattr__(self, "kept", kept)

    @classmethod
    def dense(cls, graph: ChannelGraph) -> WidthPlan:
        """Keep everything."""
        return cls(graph, {})

    @classmethod
    def uniform(cls, graph: ChannelGraph, keep: float, scores: Mapping[str, np.ndarray] | None = None) -> WidthPlan:
        """Keep the share `keep` (0 < keep <= 1) of every group that may be cut, at least one channel.

        Without `scores` the first channels stay; with them (group -> one score a channel) the highest.
        """
        if not 0 < keep <= 1:
            raise InputError(f"keep={keep} is not in (0, 1]", remedy="keep=0.5 keeps half of the channels")
        widths = {
            group.name: max(group.parts, round(group.channels * keep / group.parts) * group.parts)
            for group in graph.cuttable
        }
        return cls.from_scores(graph, scores or {}, widths)

    @classmethod
    def from_scores(cls, graph: ChannelGraph, scores: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> WidthPlan:
        """Keep the `widths[g]` channels of highest score in every group g; ties go to the lower index.

        Raises:
            InputError: a width is out of range or no multiple of the group's parts, or scores are of the wrong length.
        """
        kept = {}
        for name, width in widths.items():
            group = graph.group(name)
            score = np.asarray(scores.get(name, np.zeros(group.channels)), dtype=np.float64)
            if score.shape != (group.channels,):
                raise InputError(
                    f"scores of group {name!r} have shape {score.shape}, not ({group.channels},)",
                    remedy="give one score a channel",
                )
            if not group.least <= width <= group.channels or width % group.parts:
                raise InputError(
                    f"width {width} of group {name!r} is not in {group.least}..{group.channels}"
                    + (f" and a multiple of {group.parts}" if group.parts > 1 else ""),
                    remedy="choose a width that the group can have",
                )
            runs = score.reshape(group.parts, -1)
            best = np.argsort(-runs, axis=1, kind="stable")[:, : width // group.parts]
            offset = np.arange(group.parts)[:, None] * runs.shape[1]
            kept[name] = np.sort((best + offset).ravel())
        return cls(graph, kept)

    @cached_property
    def widths(self) -> dict[str, int]:
        """Group -> channels kept, for every group of the network."""
        return {group.name: len(self.kept.get(group.name, range(group.channels))) for group in self.graph}

    @property
    def exact(self) -> bool:
        """Whether the compact network must equal the masked one: no group is cut that is inexact by nature."""
        return all(
            self.graph.groups[name].exact or len(kept) == self.graph.groups[name].channels
            for name, kept in self.kept.items()
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return self.graph.macs(self.widths)

    @property
    def params(self) -> int:
        """Number of parameters: scalars, not tensors."""
        return self.graph.params(self.widths)

    @cached_property
    def cuts(self) -> Cuts:
        """What the plan takes away from the network."""
        removed: dict[tuple[str, int], list[np.ndarray]] = {}
        for name, kept in self.kept.items():
            group = self.graph.groups[name]
            gone = np.setdiff1d(np.arange(group.channels), kept, assume_unique=True)
            if len(gone):
                for slot in group.slots:
                    removed.setdefault((slot.tensor, slot.dim), []).append(slot.entries(gone))
        cuts: dict[str, dict[int, np.ndarray]] = {}
        for (tensor, dim), entries in removed.items():
            stay = np.ones(self.graph.shapes[tensor][dim], dtype=bool)
            stay[np.concatenate(entries)] = False
            cuts.setdefault(tensor, {})[dim] = np.flatnonzero(stay)
        now = {key: size.value(self.widths) for key, size in self.graph.attributes.items()}
        dense = {group.name: group.channels for group in self.graph}
        changed = {key: value for key, value in now.items() if value != self.graph.attributes[key].value(dense)}
        return Cuts(cuts, changed)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON: for each group what it keeps, and the cuts that `edgeprune.load` needs."""
        return {
            "groups": {
                name: {"width": len(kept), "of": self.graph.groups[name].channels, "kept": kept.tolist()}
                for name, kept in sorted(self.kept.items())
            },
            **self.cuts.to_json(),
        }

    @classmethod
    def from_json(cls, graph: ChannelGraph, content: Mapping[str, Any]) -> WidthPlan:
        """Read what `to_json` returned, for the same network.

        Raises:
            InputError: a group is unknown or of another size.
        """
        for name, entry in content["groups"].items():
            if graph.group(name).channels != entry["of"]:
                raise InputError(
                    f"the plan's group {name!r} has {entry['of']} channels, the network's {graph.group(name).channels}",
                    remedy="use the plan with the network that it was made for",
                )
        return cls(graph, {name: np.asarray(entry["kept"]) for name, entry in content["groups"].items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WidthPlan):
            return NotImplemented
        names = set(self.widths) | set(other.widths)
        return self.widths == other.widths and all(
            np.array_equal(self._kept_or_all(name), other._kept_or_all(name)) for name in names
        )

    __hash__ = None  # type: ignore[assignment]

    def _kept_or_all(self, name: str) -> np.ndarray:
        return self.kept.get(name, np.arange(self.graph.groups[name].channels))


def _checked(group: ChannelGroup, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    kept = np.unique(np.asarray(indices, dtype=np.int64))
    if len(kept) != len(indices) or (len(kept) and (kept[0] < 0 or kept[-1] >= group.channels)):
        raise InputError(
            f"group {group.name!r} can't keep channels {list(indices)[:8]}",
            remedy=f"give different indices in 0..{group.channels - 1}",
        )
    if len(kept) < group.least:
        raise InputError(
            f"group {group.name!r} can't keep no channel: no shortcut carries the rest",
            remedy=f"keep at least {group.least}",
        )
    per_part = np.bincount(kept // (group.channels // group.parts), minlength=group.parts)
    if len(set(per_part)) > 1:
        raise InputError(
            f"group {group.name!r} must keep equally many channels in each of its {group.parts} parts, "
            f"not {per_part.tolist()}",
            remedy="use WidthPlan.from_scores, which sees to it",
        )
    return kept
