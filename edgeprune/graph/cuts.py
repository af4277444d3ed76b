"""What a plan takes away from a network, and how that is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Cuts:
    """What stays of the tensors, and what modules then have to say of their sizes.

    Attributes:
        tensors: tensor -> dimension -> entries that stay, ascending; whole dimensions are left out.
        attributes: sizes that modules keep, such as `layer1.0.width` or `block.splits[2]` -> their new value.
    """

    tensors: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)
    attributes: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tensors)

    def then(self, other: Cuts) -> Cuts:
        """Return the one cut that does both: the indices of `other` count the entries that this one has left."""
        tensors = {name: dict(dims) for name, dims in self.tensors.items()}
        for name, dims in other.tensors.items():
            for dim, kept in dims.items():
                left = tensors.setdefault(name, {}).get(dim)
                tensors[name][dim] = kept if left is None else left[kept]
        return Cuts(tensors, {**self.attributes, **other.attributes})

    def to_json(self) -> dict[str, Any]:
        """Return the cuts as JSON."""
        tensors = {
            name: {str(dim): kept.tolist() for dim, kept in dims.items()} for name, dims in sorted(self.tensors.items())
        }
        return {"cuts": tensors, "attributes": dict(sorted(self.attributes.items()))}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Cuts:
        """Read what `to_json` returned."""
        tensors = {
            name: {int(dim): np.asarray(kept, dtype=np.int64) for dim, kept in dims.items()}
            for name, dims in content["cuts"].items()
        }
        return cls(tensors, content["attributes"])
