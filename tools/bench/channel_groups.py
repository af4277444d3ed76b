"""Print, for each network: how much of it can be pruned, whether the compact network is exact, and how long that takes.

    python tools/bench/channel_groups.py                    all torchvision classification networks
    python tools/bench/channel_groups.py resnet50 swin_t    these
    python tools/bench/channel_groups.py timm:levit_128     one of timm's
    python tools/bench/channel_groups.py --others           segmentation, video and the backbones of detection networks

Weights are random, constant tensors (BatchNorm's statistics, layer scales) too. A random half of every exact group's
channels is removed.

    groups    channel groups that may be cut, those that are inexact by nature, those locked after a trial
    prunable  share of the output channels of convolutions and linear layers, the network's outputs left out, that are
              in an exact group
    error     max |compact - masked| / max |masked|
    trace     seconds for torch.export, rules and groups
    verify    seconds for the trial with random halves
    slim      seconds for the cut, without its check
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torchvision
from torch import nn

from edgeprune.errors import EdgePruneError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import TOLERANCE, slim, slim_error
from edgeprune.pruning.verify import enlivened, verified

_VIDEO = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t", "mvit_v1_b", "mvit_v2_s")


@dataclass(frozen=True)
class Subject:
    """A network to try."""

    model: nn.Module
    inputs: object
    submodule: str = ""


def load(name: str) -> Subject:
    """Return a torchvision or timm network with random weights, and an input for it."""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        import timm

        model = timm.create_model(name[5:], pretrained=False)
        return Subject(model, torch.randn(1, *model.default_cfg["input_size"]))
    builder = torchvision.models.get_model_builder(name)
    options: dict[str, object] = {"weights": None}
    if name in torchvision.models.list_models(torchvision.models.detection):
        return Subject(builder(**options, weights_backbone=None), ([torch.rand(3, 320, 320)],), "backbone")
    if name in torchvision.models.list_models(torchvision.models.segmentation):
        return Subject(builder(**options, weights_backbone=None), torch.randn(1, 3, 224, 224))
    if name in torchvision.models.list_models(torchvision.models.video):
        size = 224 if name.startswith(("mvit", "s3d")) else 112
        return Subject(builder(**options), torch.randn(1, 3, 16, size, size))
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return Subject(builder(**options), torch.randn(1, 3, _size(name), _size(name)))


def _size(name: str) -> int:
    weights = torchvision.models.get_model_weights(name)
    sizes = [one.meta.get("min_size", (1, 1))[0] for one in weights]
    return max(224, min(sizes))


def share(graph: ChannelGraph) -> tuple[float, str]:
    """Return the share of output channels that can be cut, and the reason for most of the rest."""
    outputs = sum(graph.shapes[tensor][dim] for tensor, dim in graph.outputs.items())
    open_ones = sum(
        slot.index.size
        for group in graph
        if group.exact
        for slot in group.slots
        if graph.outputs.get(slot.tensor) == slot.dim
    )
    inherent = sum(one.channels for one in graph.locked if one.reason == "output of the network")
    rest = sorted((one for one in graph.locked if one.reason != "output of the network"), key=lambda one: -one.channels)
    inexact = sum(
        slot.index.size
        for group in graph
        if not group.exact
        for slot in group.slots
        if graph.outputs.get(slot.tensor) == slot.dim
    )
    reasons = [f"{one.channels} {one.reason}" for one in rest[:2]]
    if inexact:
        reasons.insert(0, f"{inexact} inexact")
    return open_ones / max(1, outputs - inherent), "; ".join(reasons)


def row(name: str) -> tuple[str, bool]:
    """Return a line of the table, and whether all went well."""
    subject = load(name)
    model = enlivened(subject.model.eval(), seed=0)
    started = time.perf_counter()
    traced = trace(model, subject.inputs, submodule=subject.submodule)
    trace_s = time.perf_counter() - started
    started = time.perf_counter()
    graph = verified(model, traced)
    verify_s = time.perf_counter() - started
    random = np.random.default_rng(1)
    plan = WidthPlan.uniform(graph, 0.5, {group.name: random.random(group.channels) for group in graph})
    started = time.perf_counter()
    small = slim(model, plan, check=False)
    slim_s = time.perf_counter() - started
    error = slim_error(model, plan, small)
    inexact = sum(not group.exact for group in graph)
    prunable, why = share(graph)
    line = (
        f"{name:32} {len(graph.groups) - inexact:4} {inexact:4} {len(traced.groups) - len(graph.groups):4} "
        f"{prunable:8.1%} {error:8.1e} {trace_s:6.1f} {verify_s:6.1f} {slim_s:5.2f}  "
        f"{graph.macs() / 1e6:.0f}->{plan.macs / 1e6:.0f} MMACs  {why[:150]}"
    )
    return line, error <= TOLERANCE


def main() -> int:
    """Print the table; exit code 1 where one network fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--others", action="store_true", help="segmentation, video, detection backbones")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    models = torchvision.models
    others = [*models.list_models(models.segmentation), *_VIDEO, *models.list_models(models.detection)]
    names = given.names or (others if given.others else models.list_models(models))
    print(f"{'network':32} groups: exact, inexact, locked | prunable | error | trace, verify, slim s")
    failed = 0
    for name in names:
        try:
            line, good = row(name)
        except EdgePruneError as error:
            line, good = f"{name:32} FAILED {error.message}", False
        failed += not good
        print(line, flush=True)
    print(f"{len(names) - failed} of {len(names)} exact")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
