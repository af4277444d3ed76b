"""EdgePrune: from a trained PyTorch network and a number of milliseconds to an engine measured to run within them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.api import export, plan, profile
    from edgeprune.artifacts.bundle import load, save
    from edgeprune.errors import EdgePruneError
    from edgeprune.graph.channels import ChannelGraph, ChannelGroup
    from edgeprune.graph.plan import WidthPlan
    from edgeprune.graph.rules import rule
    from edgeprune.graph.trace import trace
    from edgeprune.pruning.compensate import compensate
    from edgeprune.pruning.fuse import fuse
    from edgeprune.pruning.importance import scores
    from edgeprune.pruning.slim import masked, slim
    from edgeprune.pruning.statistics import reestimate
    from edgeprune.pruning.verify import verified
    from edgeprune.report.terminal import terminal_progress

_HOMES = {
    "ChannelGraph": "graph.channels",
    "ChannelGroup": "graph.channels",
    "EdgePruneError": "errors",
    "WidthPlan": "graph.plan",
    "compensate": "pruning.compensate",
    "export": "api",
    "fuse": "pruning.fuse",
    "load": "artifacts.bundle",
    "masked": "pruning.slim",
    "plan": "api",
    "profile": "api",
    "reestimate": "pruning.statistics",
    "rule": "graph.rules",
    "save": "artifacts.bundle",
    "scores": "pruning.importance",
    "slim": "pruning.slim",
    "terminal_progress": "report.terminal",
    "trace": "graph.trace",
    "verified": "pruning.verify",
}

__all__ = [
    "ChannelGraph",
    "ChannelGroup",
    "EdgePruneError",
    "WidthPlan",
    "compensate",
    "export",
    "fuse",
    "load",
    "masked",
    "plan",
    "profile",
    "reestimate",
    "rule",
    "save",
    "scores",
    "slim",
    "terminal_progress",
    "trace",
    "verified",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import edgeprune` alone loads no torch."""
    if name == "training":  # with its parts for a training loop of one's own
        for part in ("rni", "lapp"):
            importlib.import_module(f"edgeprune.training.{part}")
        return importlib.import_module("edgeprune.training")
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeprune' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgeprune.{_HOMES[name]}"), name)
