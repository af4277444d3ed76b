"""Table: ATen operator -> channel rule. Adding an operator is one row.

A rule gets a `Call` and returns the labels of the output: a tuple of factors, or one tuple for each of several outputs.
On the way it ties labels that are the same channel and locks those that can't be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.graph.labels import Factor, Labels, Value, reshape_factors

Factors = tuple[Factor, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operator.

    Attributes:
        op: the operator's name without overload and in-place underscore, such as `conv2d`.
        args: argument name -> value; tensors are `Value`s.
        outputs: shapes of the tensors that come out.
        labels: where to tie and lock.
    """

    op: str
    args: dict[str, Any]
    outputs: tuple[tuple[int, ...], ...]
    labels: Labels

    def tensor(self, *names: str) -> Value:
        """Return the first of the named arguments that is a tensor."""
        for name in names:
            if isinstance(self.args.get(name), Value):
                return self.args[name]
        raise KeyError(names)

    def optional(self, name: str) -> Value | None:
        """Return the named argument if it is a tensor."""
        found = self.args.get(name)
        return found if isinstance(found, Value) else None

    @property
    def tensors(self) -> list[Value]:
        """Every tensor among the arguments, those in lists too."""
        found: list[Value] = []
        for arg in self.args.values():
            found += [one for one in (arg if isinstance(arg, list | tuple) else [arg]) if isinstance(one, Value)]
        return found

    def dim(self, name: str = "dim", *, of: Value) -> int:
        """Return the named argument as a dimension counted from the front."""
        return int(self.args[name]) % max(1, len(of.shape))

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
            self.labels.lock(one if one is not None else other, reason)  # type: ignore[arg-type]


Rule = Callable[[Call], Factors | list[Factors]]


def elementwise(call: Call) -> Factors:
    """Tie what meets after broadcasting."""
    return merge(call, call.tensors, call.outputs[0])


def merge(call: Call, values: Sequence[Value], shape: Sequence[int]) -> Factors:
    """Return the factors of an element-wise result of `shape`."""
    out: list[Factor] = []
    for value in values:
        shift = len(shape) - len(value.shape)
        for factor in value.factors:
            dims = tuple(dim + shift for dim in factor.dims)
            if all(value.shape[dim] == shape[dim + shift] for dim in factor.dims):
                out = _join(call.labels, out, Factor(dims, factor.ids), shape)
    for value in values:
        shift = len(shape) - len(value.shape)
        for factor in out:
            full = any(dim - shift >= 0 and value.shape[dim - shift] == shape[dim] > 1 for dim in factor.dims)
            labelled = any(dim - shift >= 0 and value.factor_at(dim - shift) for dim in factor.dims)
            if full and not labelled:
                call.labels.lock(factor.ids, f"{call.op} with a tensor of fixed size")
    return tuple(out)


def _join(labels: Labels, factors: list[Factor], new: Factor, shape: Sequence[int]) -> list[Factor]:
    """Add a factor to those of an element-wise result; overlapping ones are tied."""
    apart = [factor for factor in factors if not set(factor.dims) & set(new.dims)]
    for factor in factors:
        if factor in apart:
            continue
        union = tuple(sorted(set(factor.dims) | set(new.dims)))
        one, other = (_spread(part, union, shape) for part in (factor, new))
        labels.tie(one, other)
        smaller = min(factor, new, key=lambda part: len(part.dims))
        new = smaller if set(smaller.dims) == set(factor.dims) & set(new.dims) else Factor(union, one)
    return [*apart, new]


def _spread(factor: Factor, dims: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    small = factor.ids.reshape([shape[dim] if dim in factor.dims else 1 for dim in dims])
    return np.broadcast_to(small, [shape[dim] for dim in dims])


def convolution(call: Call) -> Factors:
    """Tie input channels to the weight's columns; in a grouped convolution a whole group is one channel."""
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.optional("bias")
    groups = int(call.args.get("groups", 1))
    transposed = "transpose" in call.op
    dim = len(x.shape) - (len(weight.shape) - 1)
    x_ids = call.channel(x, dim)
    rows, columns = call.channel(weight, 0), call.channel(weight, 1)
    if groups == 1:
        w_in, w_out = (rows, columns) if transposed else (columns, rows)
        call.same(x_ids, w_in, f"input of {call.op} is no channel dimension")
        out = w_out
    else:
        out = call.labels.fresh(call.outputs[0][dim]) if transposed else rows
        assert out is not None
        if transposed:
            call.same(x_ids, rows, f"input of {call.op} is no channel dimension")
        whole = out.reshape(groups, -1)
        call.labels.tie(whole, whole[:, :1])
        if x_ids is None:
            call.labels.lock(out, f"input of {call.op} is no channel dimension")
        else:
            call.labels.tie(x_ids.reshape(groups, -1), whole[:, :1])
    assert out is not None
    if bias is not None:
        call.same(out, call.channel(bias, 0), f"bias of {call.op} is not a parameter")
    return (Factor((dim,), out),)


def linear(call: Call) -> Factors:
    """Tie the last dimension to the weight's columns."""
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.optional("bias")
    last = len(x.shape) - 1
    call.same(call.channel(x, last), call.channel(weight, 1), "input of linear is no channel dimension")
    out = call.channel(weight, 0)
    if out is None:
        return x.without([last])
    if bias is not None:
        call.same(out, call.channel(bias, 0), "bias of linear is not a parameter")
    return (*x.without([last]), Factor((last,), out))


def matmul(call: Call) -> Factors:
    """Tie the contracted dimensions; batch dimensions (heads) are tied as in an element-wise operator."""
    one, other = call.tensor("input", "self"), call.tensor("mat2", "other", "vec2")
    if len(one.shape) < 2 or len(other.shape) < 2:
        return opaque(call)
    rank = len(call.outputs[0])
    left = _by_head(call, one)
    right = _by_head(call, other)
    call.same(
        call.channel(left, len(one.shape) - 1),
        call.channel(right, len(other.shape) - 2),
        "product with a dimension that is no channel dimension",
    )
    batch = merge(call, [_batch(left), _batch(right)], call.outputs[0][:-2]) if rank > 2 else ()
    found = list(batch)
    for value, dim, at in ((left, len(one.shape) - 2, rank - 2), (right, len(other.shape) - 1, rank - 1)):
        ids = call.channel(value, dim)
        if ids is not None:
            found.append(Factor((at,), ids))
    return tuple(found)


def _by_head(call: Call, value: Value) -> Value:
    """Where one factor covers a batch dimension and a matrix dimension, keep whole heads together."""
    inner = len(value.shape) - 2
    factors = []
    for factor in value.factors:
        if len(factor.dims) > 1 and factor.dims[0] < inner <= factor.dims[-1]:
            axes = [axis for axis, dim in enumerate(factor.dims) if dim >= inner]
            factor = Factor(
                tuple(dim for dim in factor.dims if dim < inner), call.labels.tie_along(factor.ids, axes)
            )
        factors.append(factor)
    return Value(value.shape, tuple(factors))


def _batch(value: Value) -> Value:
    inner = len(value.shape) - 2
    return Value(value.shape[:inner], tuple(f for f in value.factors if all(dim < inner for dim in f.dims)))


def attention(call: Call) -> Factors:
    """softmax(q k^T) v: whole heads are channels, and what is inside a head stays together."""
    query, key, value = (_by_head(call, call.tensor(name)) for name in ("query", "key", "value"))
    heads = merge(call, [_batch(query), _batch(key), _batch(value)], call.outputs[0][:-2])
    for part in (query, key, value):
        for dim in (len(part.shape) - 2, len(part.shape) - 1):
            ids = call.channel(part, dim)
            if ids is not None:
                call.labels.lock(ids, "inside an attention head")
    return heads


def norm_by_channel(call: Call) -> Factors:
    """Batch and instance norm: one entry of every parameter a channel."""
    x = call.tensor("input")
    ids = call.channel(x, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        parameter = call.optional(name)
        if parameter is not None:
            call.same(ids, call.channel(parameter, 0), f"input of {call.op} is no channel dimension")
    return (*x.without([1]), Factor((1,), ids)) if ids is not None else x.factors


def layer_norm(call: Call) -> Factors:
    """The mean is taken over the channels, so cutting some of them is inexact by nature."""
    x = call.tensor("input")
    normalized = range(len(x.shape) - len(call.args["normalized_shape"]), len(x.shape))
    for factor in x.factors:
        if set(factor.dims) & set(normalized):
            call.labels.mark_inexact(factor.ids)
    parameters = [value for name in ("weight", "bias") if (value := call.optional(name)) is not None]
    return merge(call, [x, *parameters], call.outputs[0])


def group_norm(call: Call) -> Factors:
    """Each group has its own mean: cutting whole groups is exact."""
    x = call.tensor("input")
    ids = call.channel(x, 1)
    for name in ("weight", "bias"):
        parameter = call.optional(name)
        if parameter is not None:
            call.same(ids, call.channel(parameter, 0), "input of group_norm is no channel dimension")
    if ids is None:
        return x.factors
    whole = ids.reshape(int(call.args["num_groups"]), -1)
    call.labels.tie(whole, whole[:, :1])
    return (*x.without([1]), Factor((1,), ids))


def prelu(call: Call) -> Factors:
    x, weight = call.tensor("self", "input"), call.tensor("weight")
    if weight.shape != (1,) and weight.shape:
        call.same(call.channel(x, 1), call.channel(weight, 0), "input of prelu is no channel dimension")
    return x.factors


def keep(call: Call) -> Factors:
    """Shape and channels as they were."""
    return call.tensor("self", "input").factors


def spatial(call: Call) -> Factors:
    """Pooling and resizing: channels stay, positions change."""
    x = call.tensor("self", "input")
    changed = {dim for dim in range(len(x.shape)) if x.shape[dim] != call.outputs[0][dim]}
    for factor in x.factors:
        if changed & set(factor.dims):
            call.labels.lock(factor.ids, f"{call.op} over a channel dimension")
    return x.without(changed)


def softmax(call: Call) -> Factors:
    """Over a channel dimension the result depends on the other channels."""
    x = call.tensor("self", "input")
    factor = x.factor_at(call.dim(of=x))
    if factor is not None:
        call.labels.mark_inexact(factor.ids)
    return x.factors


def reduction(call: Call) -> Factors:
    """Mean, sum, maximum ...: a reduced channel dimension can't lose channels."""
    x = call.tensor("self", "input")
    given = call.args.get("dim")
    listed = list(range(len(x.shape))) if given is None or given == [] else given
    dims = [dim % len(x.shape) for dim in (listed if isinstance(listed, list | tuple) else [listed])]
    for factor in x.factors:
        if set(dims) & set(factor.dims):
            call.labels.lock(factor.ids, f"{call.op} over a channel dimension")
    left = x.without(dims)
    return left if call.args.get("keepdim") else drop_dims(left, dims)


def drop_dims(factors: Iterable[Factor], dims: Sequence[int]) -> Factors:
    """Renumber dimensions after `dims` went."""
    return tuple(Factor(tuple(d - sum(one < d for one in dims) for d in f.dims), f.ids) for f in factors)


def concatenate(call: Call) -> Factors:
    """Join the labels along the dimension; tie them along the others."""
    values = [value for value in call.args["tensors"] if len(value.shape) == len(call.outputs[0])]
    dim = call.dim(of=values[0])
    if all(value.factor_at(dim) is None for value in values):
        return _stacked(call, values, dim)
    columns = []
    for value in values:
        ids = call.channel(value, dim)
        if ids is None:
            ids = call.labels.fresh(value.shape[dim])
            call.labels.lock(ids, "concatenated with what is no channel")
        columns.append(ids)
    rest = _stacked(call, [Value(value.shape, value.without([dim])) for value in values], dim)
    return (*rest, Factor((dim,), np.concatenate(columns)))


def _stacked(call: Call, values: Sequence[Value], dim: int) -> Factors:
    """Tie the labels of tensors that lie one behind the other along `dim`."""
    shape = [1 if at == dim else size for at, size in enumerate(call.outputs[0])]
    slim = [Value(tuple(shape), value.without([dim])) for value in values]
    return merge(call, slim, shape)


def permute(call: Call) -> Factors:
    x = call.tensor("self", "input")
    rank = len(x.shape)
    if call.op == "permute":
        order = [dim % rank for dim in call.args["dims"]]
    else:
        order = list(range(rank))
        one, other = (0, rank - 1) if call.op in ("t", "numpy_T") else (call.dim("dim0", of=x), call.dim("dim1", of=x))
        order[one], order[other] = order[other], order[one]
    factors = []
    for factor in x.factors:
        moved = [order.index(dim) for dim in factor.dims]
        axes = np.argsort(moved)
        factors.append(Factor(tuple(sorted(moved)), factor.ids.transpose(axes)))
    return tuple(factors)


def reshape(call: Call) -> Factors:
    return reshape_factors(call.tensor("self", "input"), call.outputs[0], call.labels)


def cut_along(call: Call) -> list[Factors]:
    """split, chunk, unbind, slice, select: parts of a channel dimension have bounds written in code, so they are locked."""
    x = call.tensor("self", "input")
    dim = call.dim(of=x)
    ids = x.factor_at(dim)
    if ids is not None and any(shape[dim : dim + 1] != x.shape[dim : dim + 1] for shape in call.outputs):
        call.labels.lock(ids.ids, f"{call.op} of a channel dimension")
    elif ids is not None:
        return [x.factors for _ in call.outputs]
    left = x.without([dim])
    dropped = len(call.outputs[0]) < len(x.shape)
    return [drop_dims(left, [dim]) if dropped else left for _ in call.outputs]


def cut_one(call: Call) -> Factors:
    return cut_along(call)[0]


def pad(call: Call) -> Factors:
    """Constant padding of a channel dimension adds entries whose number is written in code: those are locked."""
    x, shape = call.tensor("self", "input"), call.outputs[0]
    amounts = list(call.args.get("pad", call.args.get("padding", [])))
    factors = list(x.factors)
    for at in range(len(amounts) // 2):
        dim, before, after = len(x.shape) - 1 - at, int(amounts[2 * at]), int(amounts[2 * at + 1])
        ids = call.channel(x, dim)
        if ids is None or (before, after) == (0, 0):
            continue
        if before < 0 or after < 0 or call.args.get("mode", "constant") != "constant":
            call.labels.lock(ids, f"{call.op} of a channel dimension")
            factors = [factor for factor in factors if dim not in factor.dims]
            continue
        added = call.labels.fresh(before + after)
        call.labels.lock(added, "zeros padded in code")
        wide = np.concatenate([added[:before], ids, added[before:]])
        assert len(wide) == shape[dim]
        factors = [*(factor for factor in factors if dim not in factor.dims), Factor((dim,), wide)]
    return tuple(factors)


def expand(call: Call) -> Factors:
    x = call.tensor("self", "input")
    return merge(call, [x], call.outputs[0])


def nothing(call: Call) -> Factors:
    """The result depends on the shape alone."""
    return ()


def opaque(call: Call) -> Factors:
    """An operator without a rule: lock what flows in."""
    for value in call.tensors:
        call.labels.lock_value(value, f"no channel rule for {call.op}")
    return ()


_ELEMENTWISE = """
add sub mul div rsub pow maximum minimum where clamp clamp_min clamp_max lerp addcmul addcdiv fmod remainder
eq ne lt le gt ge logical_and logical_or logical_not masked_fill atan2 bitwise_and bitwise_or bitwise_not
relu relu6 leaky_relu elu selu celu gelu silu mish hardtanh hardsigmoid hardswish sigmoid tanh softplus softsign log_sigmoid
exp expm1 log log1p sqrt rsqrt square reciprocal abs neg sign sin cos tan erf floor ceil round trunc threshold isnan nan_to_num
""".split()
_KEEP = """
dropout feature_dropout alpha_dropout native_dropout clone contiguous detach detach_copy to _to_copy type_as float alias
lift_fresh_copy bernoulli fill zeros_like ones_like full_like empty_like rand_like randn_like cumsum
""".split()
_SPATIAL = """
max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool2d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d
upsample_bicubic2d upsample_trilinear3d _upsample_bilinear2d_aa _upsample_nearest_exact2d
""".split()

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_KEEP, keep),
    **dict.fromkeys(_SPATIAL, spatial),
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], convolution),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], convolution),
    **dict.fromkeys(["matmul", "mm", "bmm"], matmul),
    **dict.fromkeys(["batch_norm", "instance_norm"], norm_by_channel),
    **dict.fromkeys(["softmax", "_softmax", "log_softmax"], softmax),
    **dict.fromkeys(["mean", "sum", "amax", "amin", "max", "min", "prod", "std", "var", "norm", "linalg_vector_norm"], reduction),
    **dict.fromkeys(["permute", "transpose", "t", "swapaxes"], permute),
    **dict.fromkeys(["view", "reshape", "flatten", "unflatten", "_unsafe_view", "squeeze", "unsqueeze", "view_as"], reshape),
    **dict.fromkeys(["split", "split_with_sizes", "chunk", "unbind", "tensor_split"], cut_along),
    **dict.fromkeys(["slice", "select", "narrow"], cut_one),
    **dict.fromkeys(["pad", "constant_pad_nd"], pad),
    **dict.fromkeys(["arange", "zeros", "ones", "full", "scalar_tensor", "empty", "sym_size", "new_zeros", "new_ones"], nothing),
    "linear": linear,
    "scaled_dot_product_attention": attention,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "prelu": prelu,
    "cat": concatenate,
    "concat": concatenate,
    "expand": expand,
}  # fmt: skip
