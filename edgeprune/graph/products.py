"""Channel rules of convolutions, matrix products and attention."""

from __future__ import annotations

import numpy as np

from edgeprune.graph.call import Call, Factors, merge
from edgeprune.graph.labels import Factor, Value
from edgeprune.graph.sizes import Size

_FEW = 8
"""Fewer convolution groups than this, and wider than they are many, are narrowed; of more, whole ones go."""


def convolution(call: Call) -> Factors:
    """Tie input channels to the weight's columns; in a grouped convolution whole groups go, or all become narrower."""
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.optional("bias")
    groups = int(call.args.get("groups", 1))
    transposed = "transpose" in call.op
    dim = len(x.shape) - (len(weight.shape) - 1)
    reason = f"input of {call.op} is no channel dimension"
    call.fix(weight, range(2, len(weight.shape)))
    x_ids, rows, columns = call.channel(x, dim), call.channel(weight, 0), call.channel(weight, 1)
    w_in, w_out = (rows, columns) if transposed else (columns, rows)
    if groups > 1:
        w_out = call.labels.fresh(call.outputs[0][dim]) if transposed else rows
    if w_out is None:
        call.labels.lock_value(x, f"weight of {call.op} is no parameter")
        return ()
    if groups == 1:
        call.same(x_ids, w_in, reason)
    elif x_ids is None:
        call.labels.lock(w_out, reason)
    elif groups < _FEW and min(len(x_ids), len(w_out)) // groups > groups:
        _narrow_groups(call, groups, x_ids, rows, columns, w_out)
    else:
        whole = w_out.reshape(groups, -1)
        call.labels.tie(whole, whole[:, :1])
        call.labels.tie(x_ids.reshape(groups, -1), whole[:, :1])
        if transposed:
            call.same(x_ids, rows, f"weight of {call.op} is no parameter")
        given = next((one for one in reversed(call.integers) if one == groups), groups)
        call.keeps_size(given if isinstance(given, Size) else Size(groups, f"{call.where}.groups"), whole[:, 0])
    if bias is not None:
        call.same(w_out, call.channel(bias, 0), f"bias of {call.op} is no parameter")
    return (*_positions(call, Value(x.shape, x.without([dim])), dim + 1), Factor((dim,), w_out))


def _positions(call: Call, x: Value, first: int) -> Factors:
    """Return the factors of what the kernel slides over: channels along which their number stays feel each other."""
    along = [at for at in range(first, len(x.shape)) if x.shape[at] == call.outputs[0][at]]
    over = tuple(factor for factor in x.factors if set(factor.dims) <= set(along))
    for factor in over:
        call.labels.mark_inexact(factor.ids)
    gone = [dim for factor in over for dim in factor.dims]
    return (*over, *call.fix(Value(x.shape, x.without(gone)), range(first, len(x.shape))))


def _narrow_groups(
    call: Call,
    groups: int,
    x_ids: np.ndarray,
    rows: np.ndarray | None,
    columns: np.ndarray | None,
    w_out: np.ndarray,
) -> None:
    """Few wide convolution groups: all stay, and lose the same of their inputs and equally many of their outputs."""
    inputs, outputs = x_ids.reshape(groups, -1), w_out.reshape(groups, -1)
    if "transpose" in call.op:
        call.labels.tie(outputs, outputs[:1])
        call.same(outputs[0], columns, f"weight of {call.op} is no parameter")
        call.same(x_ids, rows, f"weight of {call.op} is no parameter")
        call.labels.balance(list(inputs))
    else:
        call.labels.tie(inputs, inputs[:1])
        call.same(inputs[0], columns, f"weight of {call.op} is no parameter")
        call.labels.balance(list(outputs))


def linear(call: Call) -> Factors:
    """Tie the last dimension to the weight's columns."""
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.optional("bias")
    last = len(x.shape) - 1
    call.same(call.channel(x, last), call.channel(weight, 1), "input of linear is no channel dimension")
    out = call.channel(weight, 0)
    if out is None:
        return x.without([last])
    if bias is not None:
        call.same(out, call.channel(bias, 0), "bias of linear is no parameter")
    return (*x.without([last]), Factor((last,), out))


def embedding(call: Call) -> Factors:
    """Rows of a table are words, its columns are channels."""
    weight, indices = call.tensor("weight"), call.tensor("indices")
    columns = call.channel(weight, 1)
    call.labels.lock_value(Value(weight.shape, weight.without([1])), "words of an embedding")
    call.labels.lock_value(indices, "indices of an embedding")
    return (Factor((len(indices.shape),), columns),) if columns is not None else ()


def matmul(call: Call) -> Factors:
    """Tie the contracted dimensions; batch dimensions (heads) are tied as in an element-wise operator."""
    one, other = call.tensor("input", "self"), call.tensor("mat2", "other", "vec2")
    rank = len(call.outputs[0])
    if min(len(one.shape), len(other.shape)) < 2:
        raise ValueError("product with a vector")
    left, right = _by_head(call, one), _by_head(call, other)
    call.same(
        call.channel(left, len(one.shape) - 1),
        call.channel(right, len(other.shape) - 2),
        f"{call.op} with a dimension that is no channel dimension",
    )
    found = list(merge(call, [_batch(left), _batch(right)], call.outputs[0][:-2]))
    call.labels.note("heads", found)
    for value, dim, at in ((left, len(one.shape) - 2, rank - 2), (right, len(other.shape) - 1, rank - 1)):
        ids = call.channel(value, dim)
        if ids is not None:
            found.append(Factor((at,), ids))
    return tuple(found)


def einsum(call: Call) -> Factors:
    """Dimensions of one letter are the same; a letter that only one operand has, and the result has not, is summed."""
    values = [call.outermost(value) for value in call.tensors]
    inputs, _, output = call.args["equation"].replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not output or "." in inputs or any(len(set(term)) < len(term) for term in terms):
        raise ValueError("einsum with dots, a diagonal or no arrow")
    ids: dict[str, np.ndarray | None] = {}
    for letter in dict.fromkeys("".join(terms)):
        holders = [(value, term.index(letter)) for value, term in zip(values, terms, strict=True) if letter in term]
        found = [call.channel(value, dim) for value, dim in holders]
        for other in found[1:]:
            call.same(found[0], other, "einsum with a dimension that is no channel dimension")
        ids[letter] = found[0] if all(one is not None for one in found) else None
        if len(holders) == 1 and letter not in output and found[0] is not None:
            call.labels.mark_inexact(found[0])
    return tuple(Factor((at,), one) for at, letter in enumerate(output) if (one := ids[letter]) is not None)


def attention(call: Call) -> Factors:
    """softmax(q k^T) v: whole heads are channels, and what is inside a head stays together."""
    names = [name for name in ("query", "key", "value", "attn_mask") if call.optional(name) is not None]
    parts = [_by_head(call, call.tensor(name)) for name in names]
    heads = merge(call, [_batch(part) for part in parts], call.outputs[0][:-2])
    for part in parts:
        for dim in (len(part.shape) - 2, len(part.shape) - 1):
            ids = call.channel(part, dim)
            if ids is not None:
                call.labels.lock(ids, "inside an attention head")
    call.labels.note("heads", heads)
    return heads


def _by_head(call: Call, value: Value) -> Value:
    """Where one factor covers a batch dimension and a matrix dimension, keep whole heads together."""
    inner = len(value.shape) - 2
    factors = []
    for factor in value.factors:
        axes = [axis for axis, dim in enumerate(factor.dims) if dim >= inner]
        if 0 < len(axes) < len(factor.dims):
            dims = tuple(dim for dim in factor.dims if dim < inner)
            factor = Factor(dims, call.labels.tie_along(factor.ids, axes))
        factors.append(factor)
    return Value(value.shape, tuple(factors))


def _batch(value: Value) -> Value:
    inner = len(value.shape) - 2
    return Value(value.shape[:inner], tuple(f for f in value.factors if all(dim < inner for dim in f.dims)))
