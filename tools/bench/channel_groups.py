"""Print, for each network: how much of it can be pruned, whether the compact network is exact, and how long that takes.

    python tools/bench/channel_groups.py                    all torchvision classification networks
    python tools/bench/channel_groups.py resnet50 swin_t    these
    python tools/bench/channel_groups.py timm:levit_128     one of timm's
    python tools/bench/channel_groups.py --others           segmentation, video and the backbones of detection networks
    python tools/bench/channel_groups.py --timm             60 of timm's, of 30 families: timm_networks.txt

Weights are random, constant tensors (BatchNorm's statistics, layer scales) too. A random half of every exact group's
channels is removed; with --branches, all of every group that may go as a whole, too.

    groups    channel groups that may be cut, those that are inexact by nature, those locked after a trial
    prunable  share of the output channels of convolutions and linear layers, the network's outputs left out, that are
              in an exact group
    error     max |compact - masked| / max |masked|
    onnx      max |ONNX Runtime - compact| / max |compact| after fusion and export; a dash without --onnx
    trace     seconds for recording, rules and groups
    verify    seconds for the trial with random halves
    slim      seconds for the cut, without its check
    memory    by how much the process grew at most in trace and slim, over the size of the network; Linux only
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import torch
import torchvision
from torch import nn

from edgeprune.artifacts.onnx import export_onnx
from edgeprune.errors import EdgePruneError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.inputs import call_with, find_module
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.fuse import fuse
from edgeprune.pruning.slim import TOLERANCE, flat_tensors, slim, slim_error
from edgeprune.pruning.verify import enlivened, verified
from edgeprune.verification.numerics import ONNX_TOLERANCE, largest_difference

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


def onnx_error(small: nn.Module, graph: ChannelGraph) -> float:
    """Return how far ONNX Runtime is from torch on the compact network."""
    part = find_module(small, graph.submodule) if graph.submodule else small
    inside = len(graph.submodule) + 1 if graph.submodule else 0
    fused = fuse(part, [(one[inside:], other[inside:]) for one, other in graph.foldable])
    inputs = graph.example_inputs
    proto = export_onnx(fused, inputs)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [port.name for port in session.get_inputs()]
    tensors = flat_tensors(inputs)
    found = session.run(None, {name: one.numpy() for name, one in zip(names, tensors, strict=True)})
    with torch.no_grad():
        expected = [one.numpy() for one in flat_tensors(call_with(fused, inputs))]
    return largest_difference(found, expected)


@contextmanager
def peak(found: list[float]) -> Iterator[None]:
    """Append the bytes by which the process grew at most; not a number where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        found.append(float("nan"))
        return

    def kilobytes(what: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(what))

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back, so that it does not count as there already
    Path("/proc/self/clear_refs").write_text("5")  # the highest size so far is the size now
    before = kilobytes("VmRSS")
    yield
    found.append(1024.0 * (kilobytes("VmHWM") - before))


def row(name: str, *, onnx: bool, branches: bool) -> tuple[str, bool, float]:
    """Return a line of the table, whether all went well, and the share that is prunable."""
    subject = load(name)
    model = enlivened(subject.model.eval(), seed=0)
    own = sum(one.numel() * one.element_size() for one in [*model.parameters(), *model.buffers()])
    grown: list[float] = []
    started = time.perf_counter()
    with peak(grown):
        traced = trace(model, subject.inputs, submodule=subject.submodule)
    trace_s = time.perf_counter() - started
    started = time.perf_counter()
    graph = verified(model, traced)
    verify_s = time.perf_counter() - started
    random = np.random.default_rng(1)
    scores = {group.name: random.random(group.channels) for group in graph}
    plan = WidthPlan.uniform(graph, 0.5, scores)
    if branches:
        gone = {group.name: 0 for group in graph if group.removable}
        plan = WidthPlan.from_scores(graph, scores, {**plan.widths, **gone})
    started = time.perf_counter()
    with peak(grown):
        small = slim(model, plan, check=False)
    slim_s = time.perf_counter() - started
    error = slim_error(model, plan, small)
    away = onnx_error(small, graph) if onnx else None
    inexact = sum(not group.exact for group in graph)
    prunable, why = share(graph)
    shown = "-" if away is None else f"{away:.1e}"
    line = (
        f"{name:32} {len(graph.groups) - inexact:4} {inexact:4} {len(traced.groups) - len(graph.groups):4} "
        f"{prunable:8.1%} {error:8.1e} {shown:>8} {trace_s:6.1f} {verify_s:6.1f} {slim_s:5.2f} "
        f"{max(grown) / own:6.1f}  "
        f"{graph.macs() / 1e6:.0f}->{plan.macs / 1e6:.0f} MMACs  {why[:150]}"
    )
    return line, error <= TOLERANCE and (away is None or away <= ONNX_TOLERANCE), prunable


def main() -> int:
    """Print the table; exit code 1 where one network fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--others", action="store_true", help="segmentation, video, detection backbones")
    parser.add_argument("--timm", action="store_true", help="60 networks of timm")
    parser.add_argument("--onnx", action="store_true", help="export the compact network and run it")
    parser.add_argument("--branches", action="store_true", help="remove all groups that may go as a whole")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    models = torchvision.models
    others = [*models.list_models(models.segmentation), *_VIDEO, *models.list_models(models.detection)]
    timms = [f"timm:{name}" for name in (Path(__file__).parent / "timm_networks.txt").read_text().split()]
    names = given.names or (others if given.others else timms if given.timm else models.list_models(models))
    print(f"{'network':32} groups: exact, inexact, locked | prunable | error | onnx | trace, verify, slim s | memory")
    failed = most = 0
    for name in names:
        prunable = 0.0
        try:
            line, good, prunable = row(name, onnx=given.onnx, branches=given.branches)
        except EdgePruneError as error:
            line, good = f"{name:32} FAILED {error.message}", False
        failed += not good
        most += prunable >= 0.9
        print(line, flush=True)
    print(f"{len(names) - failed} of {len(names)} exact; at least 90 % of the output channels prunable in {most}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
