"""One call of an operator, as a channel rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from edgeprune.graph.labels import Factor, Labels, Value
from edgeprune.graph.sizes import Size

Factors = tuple[Factor, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operator.

    Attributes:
        op: the operator's name without overload and in-place underscore, such as `conv2d`.
        args: argument name -> value; tensors are `Value`s.
        outputs: shapes of the tensors that come out.
        labels: where to tie and lock.
        where: the module that calls it.
        integers: all that the code gave, in order; those that came from attributes of modules are `Size`s.
    """

    op: str
    args: dict[str, Any]
    outputs: tuple[tuple[int, ...], ...]
    labels: Labels
    where: str = ""
    integers: tuple[int, ...] = ()

    def tensor(self, *names: str) -> Value:
        """Return the first of the named arguments that is a tensor."""
        for name in names:
            if isinstance(self.args.get(name), Value):
                return cast(Value, self.args[name])
        raise KeyError(names)

    def optional(self, name: str) -> Value | None:
        """Return the named argument if it is a tensor."""
        found = self.args.get(name)
        return found if isinstance(found, Value) else None

    @property
    def x(self) -> Value:
        """The tensor that the operator works on."""
        return self.tensor("self", "input")

    @property
    def tensors(self) -> list[Value]:
        """Every tensor among the arguments, those in lists too."""
        found: list[Value] = []
        for arg in self.args.values():
            found += [one for one in (arg if isinstance(arg, list | tuple) else [arg]) if isinstance(one, Value)]
        return found

    def dims(self, name: str = "dim", *, of: Value) -> list[int]:
        """Return the named argument, one dimension or a list of them, counted from the front."""
        given = self.args[name]
        return [int(dim) % max(1, len(of.shape)) for dim in (given if isinstance(given, list | tuple) else [given])]

    def dim(self, name: str = "dim", *, of: Value) -> int:
        """Return the named argument as a dimension counted from the front."""
        return self.dims(name, of=of)[0]

    def origins(self, values: Sequence[int]) -> list[Size | None]:
        """Return the attribute that each of the `values` came from, which the code gave one behind the other."""
        runs = [self.integers[at : at + len(values)] for at in range(len(self.integers) - len(values) + 1)]
        found = [[one if isinstance(one, Size) else None for one in run] for run in runs if list(run) == list(values)]
        return max(found, key=lambda run: len(run) - run.count(None), default=[None] * len(values))

    def keeps_size(self, size: Size | None, ids: np.ndarray | None) -> None:
        """Say that the attribute that `size` came from is the number of these channels; None can't change."""
        if size is not None:
            self.labels.sized(size.key, size.each, ids)

    def channel(self, value: Value, dim: int) -> np.ndarray | None:
        """Return one label an entry of dimension `dim`, or None where it is no channel dimension."""
        factor = value.factor_at(dim)
        if factor is None:
            return None
        return self.labels.tie_along(factor.ids, [axis for axis, one in enumerate(factor.dims) if one != dim])

    def same(self, one: np.ndarray | None, other: np.ndarray | None, reason: str) -> None:
        """Tie two label arrays; where one side is no channel, lock the other."""
        if one is not None and other is not None:
            self.labels.tie(one, other)
        elif one is not None or other is not None:
            self.labels.lock(cast(np.ndarray, one if one is not None else other), reason)

    def fix(self, value: Value, dims: Iterable[int], *, inexact: bool = False) -> Factors:
        """Return the factors of `value` once `dims` can't change their size.

        Channels spread over one of `dims` and others (heads of query, key and value) go as a whole along it. Channels
        that lie along `dims` alone must stay, or with `inexact` may go although the others feel it.
        """
        fixed = set(dims)
        left = []
        for factor in value.factors:
            axes = [axis for axis, dim in enumerate(factor.dims) if dim in fixed]
            if not axes:
                left.append(factor)
            elif len(axes) < len(factor.dims):
                rest = tuple(dim for dim in factor.dims if dim not in fixed)
                left.append(Factor(rest, self.labels.tie_along(factor.ids, axes)))
            elif inexact:
                self.labels.mark_inexact(factor.ids)
            else:
                self.labels.lock(factor.ids, f"{self.op} over a channel dimension")
        return tuple(left)

    def outermost(self, value: Value) -> Value:
        """Keep whole heads together: channels spread over several dimensions go by the first of them."""
        factors = [Factor(f.dims[:1], self.labels.tie_along(f.ids, range(1, f.ids.ndim))) for f in value.factors]
        return Value(value.shape, tuple(factors))


Rule = Callable[[Call], Factors | list[Factors]]


def drop_dims(factors: Iterable[Factor], dims: Sequence[int]) -> Factors:
    """Renumber dimensions after `dims` went."""
    return tuple(Factor(tuple(d - sum(one < d for one in dims) for d in f.dims), f.ids) for f in factors)


def insert_dim(value: Value, dim: int) -> Value:
    """Return `value` with a dimension of size 1 put before `dim`."""
    factors = tuple(Factor(tuple(d + (d >= dim) for d in f.dims), f.ids) for f in value.factors)
    return Value((*value.shape[:dim], 1, *value.shape[dim:]), factors)


def merge(call: Call, values: Sequence[Value], shape: Sequence[int]) -> Factors:
    """Return the factors of an element-wise result of `shape`: what meets after broadcasting is tied."""
    out: list[Factor] = []
    for value in values:
        shift = len(shape) - len(value.shape)
        for factor in value.factors:
            if all(value.shape[dim] == shape[dim + shift] for dim in factor.dims):
                out = _join(call.labels, out, Factor(tuple(dim + shift for dim in factor.dims), factor.ids), shape)
            else:
                call.labels.lock(factor.ids, f"{call.op} repeats it")
    for value in values:
        shift = len(shape) - len(value.shape)
        for factor in out:
            inside = [dim - shift for dim in factor.dims if dim >= shift]
            full = any(value.shape[dim] == shape[dim + shift] > 1 for dim in inside)
            if full and not any(value.factor_at(dim) for dim in inside):
                call.labels.lock(factor.ids, f"{call.op} with a tensor of fixed size")
    return tuple(out)


def _join(labels: Labels, factors: list[Factor], new: Factor, shape: Sequence[int]) -> list[Factor]:
    """Add a factor to those of an element-wise result; overlapping ones are tied."""
    apart = [factor for factor in factors if not set(factor.dims) & set(new.dims)]
    for factor in factors:
        if factor.dims == new.dims:
            labels.tie(factor.ids, new.ids)
        elif set(factor.dims) & set(new.dims):
            union = tuple(sorted(set(factor.dims) | set(new.dims)))
            one, other = (_spread(part, union, shape) for part in (factor, new))
            labels.tie(one, other)
            smaller = min(factor, new, key=lambda part: len(part.dims))
            new = smaller if set(smaller.dims) == set(factor.dims) & set(new.dims) else Factor(union, one)
    return [*apart, new]


def _spread(factor: Factor, dims: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    small = factor.ids.reshape([shape[dim] if dim in factor.dims else 1 for dim in dims])
    return np.broadcast_to(small, [shape[dim] for dim in dims])
