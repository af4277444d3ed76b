"""Torch-Pruning 1.6.1 as a peer: a network cut by a ratio, and the ratio at which its engine takes a given time."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TOLERANCE = 0.02
"""A peer's network is at the budget where its engine takes between this much less and the whole of it."""

GRID = 0.05
"""Ratios are first tried so far apart, from the smallest on: a larger one may take longer, its widths off the steps."""

STEPS = 6


@dataclass(frozen=True)
class Peer:
    """One way of Torch-Pruning: `importance` is `norm` (magnitudes over groups) or `taylor`, `scope` its range."""

    importance: str
    scope: str

    @property
    def name(self) -> str:
        """What its row is called."""
        return f"Torch-Pruning {self.importance}, {self.scope}"

    def cut(
        self,
        model: nn.Module,
        example: Tensor,
        ratio: float,
        kept: Iterable[str],
        batches: Iterable[tuple[Tensor, Tensor]],
    ) -> nn.Module:
        """Return a pruned copy in eval mode; the modules that match `kept` keep their width.

        Args:
            model: the dense network.
            example: one input.
            ratio: share of the channels that go.
            kept: patterns of module names.
            batches: images and labels for the gradients that Taylor needs.
        """
        import torch_pruning

        pruned = copy.deepcopy(model).eval()
        ignored = [
            module for name, module in pruned.named_modules() if any(fnmatchcase(name, pattern) for pattern in kept)
        ]
        scores: dict[str, Callable[[], Any]] = {
            "norm": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
            "taylor": torch_pruning.importance.GroupTaylorImportance,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = torch_pruning.pruner.BasePruner(
                pruned,
                example,
                importance=scores[self.importance](),
                global_pruning=self.scope == "global",
                pruning_ratio=ratio,
                ignored_layers=ignored,
            )
            if self.importance == "taylor":
                for images, labels in batches:
                    functional.cross_entropy(pruned(images), labels).backward()
            pruner.step()
        pruned.zero_grad(set_to_none=True)
        with torch.no_grad():
            pruned(example)
        return pruned


PEERS = tuple(Peer(importance, scope) for importance in ("norm", "taylor") for scope in ("uniform", "global"))


def ratio_at(budget_ms: float, measured_ms: Callable[[float], float]) -> float | None:
    """Return the smallest ratio whose network takes `budget_ms` or less, to within `TOLERANCE` of the time.

    None where no ratio reaches it. Where the time jumps across the budget, it is the ratio behind the jump.

    Args:
        budget_ms: what the engine may take.
        measured_ms: milliseconds of the network that was cut by a ratio.
    """
    steps = round(1 / GRID)
    high = next((at / steps for at in range(1, steps) if measured_ms(at / steps) <= budget_ms), None)
    if high is None:
        return None
    low = high - GRID
    for _ in range(STEPS):
        ratio = (low + high) / 2
        ms = measured_ms(ratio)
        if ms > budget_ms:
            low = ratio
            continue
        high = ratio
        if ms >= budget_ms * (1 - TOLERANCE):
            break
    return high
