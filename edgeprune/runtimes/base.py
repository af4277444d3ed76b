"""What a runtime must be able to do: two protocols and the values they exchange.

Everything above this file (measuring, tables, bundles) knows runtimes through these names only, so that a new one is a
file beside this one and a row in `registry.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Protocol, Sequence


@dataclass(frozen=True)
class SessionSettings:
    """How a session is opened.

    Attributes:
        precision: `fp32`, `bf16`, `fp16` or `int8`: what the arithmetic runs in. Always asked for, always read back.
        threads: cores that one inference may use.
        per_layer: switch the runtime's per-layer clocks on. They cost time, so a session that has them is never the one
            whose latency is reported.
        copies: an inference takes its inputs from host memory and leaves its outputs there. Without it, it works on
            what lies in the accelerator's memory already; on a CPU there is no difference.
    """

    precision: str = "fp32"
    threads: int = 1
    per_layer: bool = False
    copies: bool = True


@dataclass(frozen=True)
class LayerTime:
    """The time of one primitive of a compiled network, in place.

    Attributes:
        nodes: names of the ONNX nodes that this primitive computes, fused ones included; empty for what the runtime
            put in by itself (a change of layout or type). A node that was split into several primitives is in several.
        kind: the runtime's name for it, such as `Convolution` or `ReorderOutput`.
        us: microseconds of one inference.
        behind: of what the runtime put in by itself, the nodes whose output it works on, where that is known.
    """

    nodes: tuple[str, ...]
    kind: str
    us: float
    behind: tuple[str, ...] = ()

    @property
    def serves(self) -> tuple[str, ...]:
        """The nodes that its time is counted to: a change of layout is part of what computed the tensor."""
        return self.nodes or self.behind

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data that `from_json` reads back."""
        return {"nodes": list(self.nodes), "kind": self.kind, "us": self.us, "behind": list(self.behind)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerTime:
        """Rebuild a row from `to_json` data."""
        return cls(tuple(data["nodes"]), str(data["kind"]), float(data["us"]), tuple(data["behind"]))


class Session(Protocol):
    """A network loaded and compiled, ready to infer; one inference at a time.

    Attributes:
        properties: what the compiled model says about itself, read back, never what was asked for: `precision`,
            `threads`, `streams`, `device` and what else makes two measurements comparable.
        inputs: shape of every input by name, in the network's order.
        input_types: numpy type name of every input (`float32` ...).
        outputs: names of the outputs, in the network's order.
        report: what is to be known of this one engine and does not decide comparability, such as how it was built.
    """

    properties: dict[str, str]
    inputs: dict[str, tuple[int, ...]]
    input_types: dict[str, str]
    outputs: list[str]
    report: dict[str, str]

    def bind(self, arrays: Sequence[Any]) -> None:
        """Copy one array an input into the session, in the order of `inputs`; later inferences reuse them."""

    def infer(self) -> Optional[float]:
        """Run one inference on what was bound; it is over when this returns. This is what gets timed.

        Returns:
            The milliseconds that it took by another clock than the caller's: the accelerator's own, where that was
            asked for (without `copies`), or a program's that runs it. None where the caller's clock counts.
        """

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Bind, infer, and return copies of the outputs, in the order of `outputs`."""

    def layer_times(self, runs: int) -> list[LayerTime]:
        """Time every primitive over about `runs` inferences, in execution order.

        Raises:
            InputError: the session was not opened with `per_layer`.
        """

    def close(self) -> None:
        """Release the network. Closing twice is allowed."""


class Runtime(Protocol):
    """One inference engine."""

    name: str

    def version(self) -> str:
        """Return the version of the installed runtime."""

    def open(self, onnx: bytes, settings: SessionSettings) -> Session:
        """Load and compile an ONNX model held in one piece, batch and shapes static.

        Raises:
            InputError: the model cannot be loaded, or what was read back differs from what `settings` asked for.
        """

    def save_engine(self, onnx: bytes, folder: Path, settings: SessionSettings) -> list[Path]:
        """Write what this runtime loads in production into `folder`; return the files written."""
