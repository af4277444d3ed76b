"""What OpenVINO's runtime model says of each primitive: its counter, and which ONNX nodes it computes.

Facts about the CPU plug-in that this file rests on (OpenVINO 2026.4; src/plugins/intel_cpu perf_count.h, graph.cpp):
  - a node's counter is a running mean since compilation, cold runs included, of durations cut to whole microseconds,
    and is cut to a whole microsecond again when read. So: read twice, take the difference of the totals, and add the
    two half microseconds;
  - the status of a node says only whether that mean is above zero;
  - `originalLayersNames` says which nodes a primitive computes. Where a node was taken apart (a LayerNormalization into
    a mean, a difference, an RMS norm, and a sum), the last part has its name, and those before it have names that are
    made up;
  - a linear layer goes by the name of the addition of its bias, without that of its product.
"""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Sequence

from edgeprune.runtimes.onnxgraph import GraphNode, Primitive, attribute, behind

_NOT_COMPUTED = ("Input", "Output", "Const")
_LINEAR = "FullyConnected"
_PRODUCTS = ("MatMul", "Gemm")
_TWICE_CUT_US = 1.0


class Counter(NamedTuple):
    """A primitive and its counter.

    Attributes:
        primitive: what it is.
        mean_us: of all inferences since compilation, in whole microseconds.
        part: it is executed and has names, none of which is a node's: a part of a node that was taken apart.
    """

    primitive: Primitive
    mean_us: int
    part: bool


class Served(NamedTuple):
    """The nodes that a primitive computes, and where it is none, those whose output it works on."""

    nodes: tuple[str, ...]
    behind: tuple[str, ...]


def counters(compiled: Any, nodes: Sequence[GraphNode]) -> list[Counter]:
    """Return every primitive of a compiled model with its counter, in execution order.

    Args:
        compiled: the model, with PERF_COUNT.
        nodes: those of the network that was given to OpenVINO.
    """
    known = frozenset(node.name for node in nodes)
    found: list[tuple[int, Counter]] = []
    for operation in compiled.get_runtime_model().get_ordered_ops():
        info = {key: value.value for key, value in operation.get_rt_info().items()}
        if info["layerType"] in _NOT_COMPUTED:
            continue
        executed = info["execTimeMcs"].isdigit()
        names = [name for name in info["originalLayersNames"].split(",") if name]
        # What was done beforehand, such as a weight's transposition, is no part of the node that names it.
        computed = known_names(names, known, of_parts=executed)
        if info["layerType"] == _LINEAR:
            computed = _with_product(computed, nodes)
        primitive = Primitive(
            operation.get_friendly_name(),
            info["layerType"],
            outputs=(operation.get_friendly_name(),),
            nodes=computed,
            inputs=tuple(port.get_node().get_friendly_name() for port in operation.input_values()),
        )
        mean_us = int(info["execTimeMcs"]) if executed else 0
        found.append((int(info["execOrder"]), Counter(primitive, mean_us, executed and bool(names) and not computed)))
    return [counter for _, counter in sorted(found, key=lambda row: row[0])]


def served_by(counted: Sequence[Counter], nodes: Sequence[GraphNode]) -> list[Served]:
    """Return what each primitive's time is of; a part of a node that was taken apart is of that node."""
    primitives = [counter.primitive for counter in counted]
    computed = attribute(nodes, primitives)
    wanted: dict[str, tuple[str, ...]] = {}  # tensor -> the nodes that it is for, past changes of layout
    for at in reversed(range(len(computed))):
        leads_to = computed[at] or wanted.get(primitives[at].name, ())
        if counted[at].part:
            computed[at] = leads_to
        for tensor in primitives[at].inputs:
            wanted[tensor] = tuple(dict.fromkeys((*leads_to, *wanted.get(tensor, ()))))
    return [Served(*pair) for pair in zip(computed, behind(primitives, computed))]


def one_run_us(mean: int, runs: int, cold_mean: int, cold: int) -> float:
    """Return the us of one of the runs after the first `cold`, from the means over all `runs` and over those."""
    return max(0.0, (mean * runs - cold_mean * cold) / (runs - cold) + _TWICE_CUT_US) if mean else 0.0


def known_names(names: Iterable[str], nodes: frozenset[str], *, of_parts: bool = True) -> tuple[str, ...]:
    """Return the ONNX nodes among OpenVINO's names; it adds `/WithoutBiases` and the like to the parts of a node."""
    found: dict[str, None] = {}
    for name in names:
        while of_parts and name not in nodes and "/" in name:
            name = name.rpartition("/")[0]
        if name in nodes:
            found[name] = None
    return tuple(found)


def _with_product(names: tuple[str, ...], nodes: Sequence[GraphNode]) -> tuple[str, ...]:
    """Return the names of nodes, and before them that of the product that leads to one of them, if they have none."""
    found = [node for node in nodes if node.name in names]
    if any(node.op_type in _PRODUCTS for node in found):
        return names
    read = {tensor for node in found for tensor in node.inputs}
    return (*(node.name for node in nodes if node.op_type in _PRODUCTS and read.intersection(node.outputs)), *names)
