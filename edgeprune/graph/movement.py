"""Channel rules of operators that move entries: reshape, permute, join, cut, pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune.graph.call import Call, Factors, drop_dims, insert_dim, merge
from edgeprune.graph.labels import Factor, Value, reshape_factors


def reshape(call: Call) -> Factors:
    """Follow channels through any factorisation of the shape; what attributes say of it, they must go on saying."""
    found = reshape_factors(call.x, call.outputs[0], call.labels)
    given = call.args.get("shape", call.args.get("size", []))
    out = Value(call.outputs[0], found)
    for dim, origin in enumerate(call.origins(given) if len(given) == len(out.shape) else []):
        call.keeps_size(origin, _along(out.factor_at(dim), dim))
    return found


def _along(factor: Factor | None, dim: int) -> np.ndarray | None:
    """Return one label an entry of dimension `dim`: those at the start of the other dimensions."""
    if factor is None:
        return None
    return factor.ids[tuple(slice(None) if one == dim else 0 for one in factor.dims)]


def expand(call: Call) -> Factors:
    """Broadcast dimensions are no channels, but where they follow those of another tensor."""
    return merge(call, call.tensors, call.outputs[0])


def permute(call: Call) -> Factors:
    """Reorder dimensions."""
    x = call.x
    return reordered(call, x, _order(call, x))


def _order(call: Call, x: Value) -> list[int]:
    """Return which dimension goes to each place."""
    rank = len(x.shape)
    if call.op == "permute":
        return call.dims("dims", of=x)
    order = list(range(rank))
    if call.op == "movedim":
        source, goal = call.dims("source", of=x), call.dims("destination", of=x)
        rest = [dim for dim in order if dim not in source]
        for to, dim in sorted(zip(goal, source, strict=True)):
            rest.insert(to, dim)
        return rest
    if call.op in ("mT", "adjoint", "matrix_H"):
        one, other = rank - 2, rank - 1
    elif call.op in ("t", "numpy_T"):
        one, other = 0, rank - 1
    else:
        names = ("axis0", "axis1") if "axis0" in call.args else ("dim0", "dim1")
        one, other = (call.dim(name, of=x) for name in names)
    order[one], order[other] = order[other], order[one]
    return order


def reordered(call: Call, x: Value, order: Sequence[int]) -> Factors:
    """Return the factors after dimension `order[i]` went to place i.

    Channels spread over several dimensions interleave when these dimensions swap. The compact network then interleaves
    what stays, which is the same only where the same entries of each row stay: so the rows are tied, the shorter
    dimension being the one whose length is written in the code.
    """
    factors = []
    for factor in x.factors:
        moved = [order.index(dim) for dim in factor.dims]
        axes = np.argsort(moved)
        if len(axes) > 1 and list(axes) != sorted(axes):
            shortest = int(np.argmin(factor.ids.shape))
            call.labels.tie(np.take(factor.ids, [0], axis=shortest), factor.ids)
        factors.append(Factor(tuple(sorted(moved)), factor.ids.transpose(axes)))
    return tuple(factors)


def concatenate(call: Call) -> Factors:
    """Join the labels along the dimension; tie them along the others."""
    values = [value for value in call.args["tensors"] if len(value.shape) == len(call.outputs[0])]
    dim = call.dim(of=values[0])
    rest = _abreast(call, values, dim)
    if all(value.factor_at(dim) is None for value in values):
        return rest
    columns = []
    for value in values:
        ids = call.channel(value, dim)
        if ids is None:
            ids = call.labels.fresh(value.shape[dim])
            call.labels.lock(ids, "concatenated with what is no channel")
        columns.append(ids)
    return (*rest, Factor((dim,), np.concatenate(columns)))


def stack(call: Call) -> Factors:
    """Concatenate along a dimension that was not there."""
    values = call.args["tensors"]
    dim = int(call.args.get("dim", 0)) % len(call.outputs[0])
    return _abreast(call, [insert_dim(value, dim) for value in values], dim)


def _abreast(call: Call, values: Sequence[Value], dim: int) -> Factors:
    """Tie the labels of tensors that lie one behind the other along `dim`, as an element-wise operator would."""
    shape = [1 if at == dim else size for at, size in enumerate(call.outputs[0])]
    return merge(call, [Value(tuple(shape), value.without([dim])) for value in values], shape)


def split(call: Call) -> list[Factors]:
    """split, chunk: equal parts of the channels must lose equally many; other bounds are written in the code."""
    x = call.x
    dim = call.dim(of=x)
    factor = x.factor_at(dim)
    sizes = [shape[dim] for shape in call.outputs]
    if factor is None:
        return [x.factors for _ in call.outputs]
    if len(factor.dims) > 1:
        return [call.fix(x, [dim]) for _ in call.outputs]
    runs = np.split(factor.ids, np.cumsum(sizes)[:-1])
    given = call.args.get("split_sizes", call.args.get("split_size"))
    origins = call.origins(given if isinstance(given, list) else [given] if given is not None else [])
    if isinstance(given, list) and all(origins):
        for origin, run in zip(origins, runs, strict=True):
            call.keeps_size(origin, run)
    elif len(set(sizes)) == 1:
        call.labels.balance(runs)
        call.keeps_size(origins[0] if len(origins) == 1 else None, runs[0])
    else:
        call.labels.lock(factor.ids, f"{call.op} at positions written in the code")
    rest = x.without([dim])
    return [(*rest, Factor((dim,), run)) for run in runs]


def unbind(call: Call) -> list[Factors]:
    """One entry of the dimension each."""
    x = call.x
    dim = call.dim(of=x)
    return [drop_dims(call.fix(x, [dim]), [dim])] * len(call.outputs)


def select(call: Call) -> Factors:
    """One entry of the dimension."""
    return unbind(call)[0]


def slice_(call: Call) -> Factors:
    """A run of channels: one of several equal parts must lose as many as the others; else its bound stays."""
    x = call.x
    dim = call.dim(of=x)
    factor, size, length = x.factor_at(dim), x.shape[dim], call.outputs[0][dim]
    if factor is None or size == length:
        return x.factors
    start, step = int(call.args.get("start") or 0), int(call.args.get("step", 1))
    start = max(0, start + size if start < 0 else min(start, size))
    if len(factor.dims) > 1 or step != 1 or length == 0:
        return call.fix(x, [dim])
    bounds = [bound for bound in (start, start + length) if 0 < bound < size]
    origins = call.origins(bounds)
    if all(origins):
        for bound, origin in zip(bounds, origins, strict=True):
            call.keeps_size(origin, factor.ids[:bound])
    elif size % length == 0 and start % length == 0:
        call.labels.balance(np.split(factor.ids, size // length))
    else:
        last = start + length if start + length < size else start
        call.labels.lock(factor.ids[:last], "slice at a position written in the code")
    return (*x.without([dim]), Factor((dim,), factor.ids[start : start + length]))


def pad(call: Call) -> Factors:
    """Constant padding of a channel dimension adds entries whose number is written in code: those are locked."""
    x = call.x
    amounts = list(call.args.get("pad", call.args.get("padding", [])))
    constant = call.args.get("mode", "constant") == "constant" and call.op in ("pad", "constant_pad_nd")
    factors = x.factors
    for at in range(len(amounts) // 2):
        dim, before, after = len(x.shape) - 1 - at, int(amounts[2 * at]), int(amounts[2 * at + 1])
        if (before, after) == (0, 0) or x.factor_at(dim) is None:
            continue
        ids = call.channel(x, dim)
        if ids is None or before < 0 or after < 0 or not constant:
            factors = call.fix(Value(x.shape, factors), [dim])
            continue
        added = call.labels.fresh(before + after)
        call.labels.lock(added, "zeros padded in code")
        wide = np.concatenate([added[:before], ids, added[before:]])
        factors = (*(factor for factor in factors if dim not in factor.dims), Factor((dim,), wide))
    return factors


def roll(call: Call) -> Factors:
    """Positions may move; channels must not."""
    x = call.x
    return call.fix(x, call.dims("dims", of=x) if call.args.get("dims") else range(len(x.shape)))


def index(call: Call) -> Factors:
    """x[indices]: dimensions that are indexed by tensors are no channels any more, the others stay."""
    x, indices = call.x, call.args["indices"]
    at = [dim for dim, one in enumerate(indices) if one is not None]
    call_dims = call.fix(x, at)
    for one in indices:
        if isinstance(one, Value):
            call.labels.lock_value(one, "index")
    grown = len(call.outputs[0]) - (len(x.shape) - len(at))
    first = at[0] if at == list(range(at[0], at[-1] + 1)) else 0

    def place(dim: int) -> int:
        behind = dim - sum(one < dim for one in at)
        return behind + (grown if behind >= first else 0)

    return tuple(Factor(tuple(place(dim) for dim in f.dims), f.ids) for f in call_dims)


def index_select(call: Call) -> Factors:
    """Like `index` along one dimension."""
    x = call.x
    return call.fix(x, call.dims(of=x))


def repeat(call: Call) -> Factors:
    """The whole tensor several times: each channel is in every copy."""
    x, shape = call.x, call.outputs[0]
    shift = len(shape) - len(x.shape)
    factors = []
    for factor in x.factors:
        dims = tuple(dim + shift for dim in factor.dims)
        factors.append(Factor(dims, np.tile(factor.ids, [shape[d] // x.shape[d - shift] for d in dims])))
    return tuple(factors)


def repeat_interleave(call: Call) -> Factors:
    """Every entry several times, one behind the other."""
    x = call.x
    dim, times = call.dim(of=x), int(call.args["repeats"])
    ids = call.channel(x, dim)
    return (*x.without([dim]), Factor((dim,), np.repeat(ids, times))) if ids is not None else x.factors


def pixel_shuffle(call: Call) -> Factors:
    """r² channels become r x r positions of one, or back."""
    x = call.x
    dim = len(x.shape) - 3
    ids = call.channel(x, dim)
    rest = call.fix(Value(x.shape, x.without([dim])), [dim + 1, dim + 2])
    if ids is None:
        return rest
    if call.op == "pixel_shuffle":
        out = call.labels.tie_along(ids.reshape(call.outputs[0][dim], -1), [1])
    else:
        out = np.repeat(ids, call.outputs[0][dim] // x.shape[dim])
    return (*rest, Factor((dim,), out))


def channel_shuffle(call: Call) -> Factors:
    """View as (groups, n), swap, flatten."""
    x = call.x
    ids = call.channel(x, 1)
    if ids is None:
        return x.factors
    rows = ids.reshape(int(call.args["groups"]), -1)
    call.labels.tie(rows, rows[:1])
    return (*x.without([1]), Factor((1,), rows.T.ravel()))


def unfold_patches(call: Call) -> Factors:
    """F.unfold: every channel with the positions of its patch, one behind the other."""
    x = call.x
    ids = call.channel(x, 1)
    rest = call.fix(Value(x.shape, x.without([1])), [2, 3])
    return (*rest, Factor((1,), np.repeat(ids, call.outputs[0][1] // x.shape[1]))) if ids is not None else rest


def unfold(call: Call) -> Factors:
    """Tensor.unfold: windows of one dimension go into a new last one."""
    x = call.x
    return call.fix(x, call.dims("dimension", of=x))
