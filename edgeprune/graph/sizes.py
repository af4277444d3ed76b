"""Sizes that a network keeps in attributes of its modules, and which of them follow from its channels.

`x.split(self.width, 1)` works on a narrower tensor once `width` says the new size. So that it can be set, every integer
attribute of a module that is not torch's own is replaced, in the copy that is recorded, by a number that knows where it
came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from edgeprune.graph.layers import Axis


class Size(int):
    """A number that came from an attribute, or is an attribute divided by `each`.

    Attributes:
        key: the attribute, such as `layer1.0.width` or `block.splits[2]`.
        each: what the attribute was divided by.
    """

    key: str
    each: int

    def __new__(cls, value: int, key: str, each: int = 1) -> Size:
        """Return `value` with its origin."""
        size = super().__new__(cls, value)
        size.key, size.each = key, each
        return size

    def __floordiv__(self, other: int) -> int:
        if type(other) is int and other > 0 and self % other == 0:
            return Size(int(self) // other, self.key, self.each * other)
        return int(self) // other

    def __deepcopy__(self, memo: Any) -> Size:
        return self


@dataclass(frozen=True)
class SizeAttribute:
    """An attribute that repeats the size of a dimension: `each` times its width."""

    axis: Axis
    each: int = 1

    def value(self, widths: Mapping[str, int]) -> int:
        """Return what the attribute has to be when group g keeps `widths[g]` channels."""
        return self.axis.width(widths) * self.each


def with_origins(model: nn.Module, prefix: str) -> None:
    """Replace, in place, the integers that the modules of `model` keep by ones that know where they came from."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or type(module).__module__.startswith("torch.nn."):
            continue
        for name, value in vars(module).items():
            key = f"{prefix}{path}.{name}" if path else f"{prefix}{name}"
            if type(value) is int:
                vars(module)[name] = Size(value, key)
            elif type(value) in (list, tuple) and value and all(type(one) is int for one in value):
                vars(module)[name] = type(value)(Size(one, f"{key}[{at}]") for at, one in enumerate(value))


def set_sizes(model: nn.Module, values: Mapping[str, int]) -> None:
    """Set, in place, attributes named as in `Size.key`."""
    for key, value in values.items():
        path, _, last = key.rpartition(".")
        module = model.get_submodule(path)
        name, index = re.fullmatch(r"([^\[]*)(?:\[(\d+)\])?", last).groups()  # type: ignore[union-attr]
        if index is None:
            setattr(module, name, value)
        else:
            before = getattr(module, name)
            setattr(module, name, type(before)([*before[: int(index)], value, *before[int(index) + 1 :]]))


class SizesGiven(TorchFunctionMode):
    """While it is active, `now` holds the integers given to the call in progress, those of attributes as `Size`s."""

    def __init__(self) -> None:
        super().__init__()
        self.now: tuple[int, ...] = ()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before, self.now = self.now, tuple(_integers_in((args, kwargs or {})))
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.now = before


def _integers_in(value: Any) -> Sequence[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    elif isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [number for one in value for number in _integers_in(one)]
