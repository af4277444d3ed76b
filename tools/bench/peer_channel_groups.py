"""Compare with Torch-Pruning on the same networks: does the cut network run, and how long does the cut take?

    pip install torch-pruning==1.6.1
    python tools/bench/peer_channel_groups.py [NETWORK ...]     all torchvision classification networks by default

Both halve every width that they can, but for the outputs. Times are medians over --repeat runs in one process, taken in
turn: ours from the module to the compact network (trace, groups, cut), theirs from the module to the pruned one
(dependency graph, importance by magnitude, cut). Ours leaves out the trial on the network and the check against the
masked one, which they do not have. Where theirs takes over a minute it runs once, and after --limit seconds it is
stopped and counts with these.

    ours, theirs   seconds
    ratio          ours over theirs
    theirs runs    whether their network runs afterwards, or what it said
"""

from __future__ import annotations

import argparse
import copy
import signal
import statistics
import sys
import time
import warnings

import torch
import torchvision
from channel_groups import load
from torch import nn

from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.pruning.slim import slim


def ours(model: nn.Module, inputs: object) -> float:
    """Return the seconds that we take."""
    started = time.perf_counter()
    graph = trace(model, inputs)
    slim(model, WidthPlan.uniform(graph, 0.5), check=False)
    return time.perf_counter() - started


def theirs(model: nn.Module, inputs: object, ends: list[str], limit: int) -> tuple[float, str]:
    """Return the seconds that Torch-Pruning takes, and what became of the network."""
    import torch_pruning

    pruned = copy.deepcopy(model)
    started = time.perf_counter()
    signal.alarm(limit)
    try:
        pruner = torch_pruning.pruner.MagnitudePruner(
            pruned,
            inputs,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=0.5,
            ignored_layers=[pruned.get_submodule(name) for name in ends],
        )
        pruner.step()
        seconds = time.perf_counter() - started
        signal.alarm(0)
        with torch.no_grad():
            pruned(inputs)
    except Exception as error:  # whatever it stumbles over is the answer
        said = (str(error).strip().splitlines() or [""])[0]
        return time.perf_counter() - started, f"{type(error).__name__}: {said[:80]}"
    finally:
        signal.alarm(0)
    return seconds, "yes"


def stopped(*_: object) -> None:
    """End a call that takes too long."""
    raise TimeoutError("stopped")


def main() -> int:
    """Print the table and its medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--limit", type=int, default=120)
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, stopped)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found: list[tuple[float, float]] = []
    runs = 0
    names = given.names or torchvision.models.list_models(torchvision.models)
    print(f"{'network':28} {'ours':>7} {'theirs':>7} {'ratio':>6}  theirs runs")
    for name in names:
        subject = load(name)
        model = subject.model.eval()
        graph = trace(model, subject.inputs)
        ends = [one for lock in graph.locked if lock.reason == "output of the network" for one in lock.modules]
        pairs: list[tuple[float, float, str]] = []
        while len(pairs) < given.repeat and (not pairs or pairs[0][1] < 60):
            pairs.append((ours(model, subject.inputs), *theirs(model, subject.inputs, ends, given.limit)))
        own, other = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
        found.append((own, other))
        runs += pairs[0][2] == "yes"
        print(f"{name:28} {own:7.2f} {other:7.2f} {own / other:6.2f}  {pairs[0][2]}", flush=True)
    slower = sorted(found, key=lambda pair: pair[1])[len(found) // 2 :]
    print(f"median ratio {statistics.median(own / other for own, other in found):.2f}", end="; ")
    print(f"on the half where they are slower {statistics.median(own / other for own, other in slower):.2f}", end="; ")
    print(f"theirs run on {runs} of {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
