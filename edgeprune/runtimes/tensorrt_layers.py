"""What TensorRT says of an engine's layers: which ONNX nodes each computes, in which type, and how long it took.

Facts that this file rests on (onnx-tensorrt importerUtils.cpp; trt-engine-explorer; sampleReporting.cpp):
  - the parser writes `[ONNX Layer: name | ...]` into a layer's metadata, cut at 4000 characters; a fused layer has the
    texts of all, and between them, as between fused names, characters such as 0x1E and 0x1F: no strict JSON;
  - an engine that was not built with detailed verbosity has names only, from which most of the rest follows: `a + b`,
    `a || b`, `PWN(a, b)`, `{ForeignNode[first...last]}` for a region that Myelin compiled as one;
  - names repeat; `Reformatting CopyNode for Input Tensor 0 to a` is a change of layout or type, not `a`;
  - TensorRT 11 splits `Format/Datatype` into `Format` and `DataType` (its IEngineInspector migration page).
"""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Set, Tuple

from edgeprune.errors import DeviceError, InputError
from edgeprune.runtimes.base import LayerTime
from edgeprune.runtimes.onnxgraph import GraphNode, Primitive, attribute

REFORMAT = "Reformat"

_SEPARATORS = re.compile("[\x1e\x1f]+")
_TOLD = re.compile(r"\[ONNX Layer: ([^\]|]+?)(?: \|[^\]]*)?\]")
_REGION = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*?)\]\}")
_PARTS = re.compile(r" \+ |\|\||, |PWN\(|[()]|\+")
_PROFILE = re.compile(r" \[profile \d+\]")
_TYPES = (
    ("int8", re.compile("(?<!u)int8", re.IGNORECASE)),
    ("fp16", re.compile("half|fp16|(?<!b)float16", re.IGNORECASE)),
    ("bf16", re.compile("bf16|bfloat16", re.IGNORECASE)),
    ("fp32", re.compile("float|fp32", re.IGNORECASE)),
)
_BOOKKEEPING = ("signal", "wait")


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a built engine.

    Attributes:
        name: as the profiler reports it.
        kind: TensorRT's word for it, such as `CaskConvolution`; empty where only names are known.
        metadata: what the parser noted, raw.
        types: what it reads and writes: `fp32`, `fp16`, `bf16`, `int8`.
    """

    name: str
    kind: str = ""
    metadata: str = ""
    types: Tuple[str, ...] = ()

    @property
    def reformats(self) -> bool:
        """Whether it only changes layout or type."""
        return self.kind == REFORMAT or self.name.startswith("Reformatting CopyNode")


def read_layers(text: str) -> List[EngineLayer]:
    """Read the JSON of an EngineInspector, or of `trtexec --exportLayerInfo`: objects, or names only.

    Raises:
        DeviceError: it is neither.
    """
    layers = _json(text, "the engine's layers")
    layers = layers.get("Layers") if isinstance(layers, dict) else layers
    if not isinstance(layers, list):
        raise DeviceError("the engine's layers are no list", remedy="report this with the version of TensorRT")
    found = [_layer(one) for one in layers]
    return [layer for layer in found if layer.kind not in _BOOKKEEPING]


def read_profile(text: str) -> List[Tuple[str, float]]:
    """Read the JSON of `trtexec --exportProfile`: (name, us of one inference) a layer, in execution order.

    Raises:
        DeviceError: it is none.
    """
    rows = _json(text, "the profile")
    if not isinstance(rows, list):
        raise DeviceError("the profile is no list", remedy="report this with the version of TensorRT")
    return [(row["name"], row.get("medianMs", row["averageMs"]) * 1e3) for row in rows if "name" in row]


def medians(runs: Sequence[Sequence[Tuple[str, float]]]) -> List[Tuple[str, float]]:
    """Return (name, median us) a layer, by place, because names repeat; runs that report other layers don't count."""
    if not runs:
        return []
    names = [name for name, _ in runs[0]]
    alike = [run for run in runs if [name for name, _ in run] == names]
    return [(name, statistics.median(run[at][1] for run in alike)) for at, name in enumerate(names)]


def rows(
    layers: Sequence[EngineLayer], profile: Sequence[Tuple[str, float]], nodes: Sequence[GraphNode]
) -> List[LayerTime]:
    """Return the layers' times with the ONNX nodes that each computes.

    Args:
        layers: what the engine consists of.
        profile: (name, us), in execution order; the k-th of a name is the k-th layer of that name.
        nodes: of the network that was built.

    Returns:
        A row for each entry of the profile. Changes of layout have rows of their own, of kind `Reformat`, and rows of
        which nothing is known have no nodes: nothing is left out or added to its neighbour.
    """
    waiting: Dict[str, List[EngineLayer]] = {}
    for layer in layers:
        waiting.setdefault(_plain(layer.name), []).append(layer)
    timed = []
    for name, us in profile:
        same = waiting.get(_plain(name))
        timed.append((same.pop(0) if same else EngineLayer(name), us))
    known = {node.name for node in nodes}
    primitives = [
        Primitive(_plain(layer.name), _kind(layer), nodes=_nodes_of(layer, nodes, known)) for layer, _ in timed
    ]
    named = [() if layer.reformats else names for (layer, _), names in zip(timed, attribute(nodes, primitives))]
    return [LayerTime(names, one.op_type, us) for names, one, (_, us) in zip(named, primitives, timed)]


def shares(found: Sequence[LayerTime]) -> Dict[str, str]:
    """Return which shares of the layers' time went into changes of layout, and into what no node is known for."""
    total = sum(row.us for row in found)
    reformats = sum(row.us for row in found if row.kind == REFORMAT and not row.nodes)
    unknown = sum(row.us for row in found if row.kind != REFORMAT and not row.nodes)
    return {
        "layers_us": f"{total:.1f}",
        "reformat_share": _share(reformats, total),
        "unattributed_share": _share(unknown, total),
    }


def precision_of(layers: Sequence[EngineLayer], asked: str) -> Dict[str, str]:
    """Return the precision that an engine runs in, read off its layers: the least exact type among them.

    Raises:
        InputError: that is not what was asked for.
    """
    found = {name for layer in layers if not layer.reformats for name in layer.types}
    if not found:
        return {"precision": asked, "precision_read_back": "no: the engine names its layers and nothing else"}
    runs = next(name for name, _ in _TYPES if name in found)
    if runs != asked:
        raise InputError(
            f"TensorRT runs this model in {runs}, not {asked}", remedy=f"export the model in {asked}, or ask for {runs}"
        )
    return {"precision": runs, "precision_read_back": "yes"}


def _share(us: float, total: float) -> str:
    return f"{us / total:.1%}" if total else "0.0%"


def _json(text: str, what: str) -> Any:
    try:
        # Not strict: the names hold control characters as they are.
        return json.loads(text, strict=False)
    except ValueError as error:
        raise DeviceError(
            f"TensorRT's description of {what} is no JSON: {error}", remedy="report this with the version of TensorRT"
        ) from None


def _layer(described: Any) -> EngineLayer:
    if isinstance(described, str):
        return EngineLayer(described)
    tensors = [*(described.get("Inputs") or []), *(described.get("Outputs") or [])]
    types = [_type(one) for one in tensors if isinstance(one, dict)]
    return EngineLayer(
        str(described.get("Name", "")),
        str(described.get("LayerType", "")),
        str(described.get("Metadata", "")),
        tuple(one for one in types if one),
    )


def _type(tensor: Mapping[str, Any]) -> str:
    """Return the type of a tensor from `Half`, or from `Channel major FP16 format where channel % 8 == 0`."""
    text = " ".join(str(tensor.get(key, "")) for key in ("Format/Datatype", "DataType", "Datatype", "Format"))
    return next((name for name, pattern in _TYPES if pattern.search(text)), "")


def _plain(name: str) -> str:
    return _PROFILE.sub("", _SEPARATORS.sub("+", name)).strip()


def _kind(layer: EngineLayer) -> str:
    if layer.reformats:
        return REFORMAT
    return layer.kind or ("Myelin" if _REGION.search(layer.name) else "Layer")


def _nodes_of(layer: EngineLayer, nodes: Sequence[GraphNode], known: Set[str]) -> Tuple[str, ...]:
    """Return the ONNX nodes of a layer: from its metadata, else from its name."""
    if layer.reformats:
        return ()
    told = [name for name in _TOLD.findall(layer.metadata) if name in known]
    if told:
        return tuple(dict.fromkeys(told))
    region = _REGION.search(layer.name)
    if region:
        return tuple(_between(region.group(1), region.group(2), nodes))
    parts = [part.strip() for part in _PARTS.split(_plain(layer.name))]
    whole = [_plain(layer.name)]  # a node's own name may hold a separator
    return tuple(dict.fromkeys(name for name in whole + parts if name in known))


def _between(first: str, last: str, nodes: Sequence[GraphNode]) -> Iterator[str]:
    """Yield the nodes on the ways from one node to another, in file order.

    A region's name tells no more; what hangs off these ways is left to the rules for nodes that nobody names.
    """
    producer = {tensor: node for node in nodes for tensor in node.outputs if tensor}
    from_first: Set[str] = {first}
    for node in nodes:
        if any(tensor in producer and producer[tensor].name in from_first for tensor in node.inputs):
            from_first.add(node.name)
    to_last: Set[str] = {last}
    for node in reversed(nodes):
        if node.name in to_last:
            to_last.update(producer[tensor].name for tensor in node.inputs if tensor in producer)
    yield from (node.name for node in nodes if node.name in from_first & to_last)
