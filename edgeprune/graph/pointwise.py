"""Channel rules of element-wise operators, norms, pooling and reductions."""

from __future__ import annotations

import numpy as np

from edgeprune.graph.call import Call, Factors, drop_dims, merge
from edgeprune.graph.labels import Factor


def elementwise(call: Call) -> Factors:
    """Tie what meets after broadcasting."""
    found = merge(call, call.tensors, call.outputs[0])
    if call.op in ("add", "sub") and sum(value.tensor is None and bool(value.factors) for value in call.tensors) > 1:
        call.labels.note("stream", found)
    return found


def keep(call: Call) -> Factors:
    """Shape and channels as they were."""
    return call.x.factors


def nothing(call: Call) -> Factors:
    """The result depends on the shape alone."""
    return ()


def spatial(call: Call) -> Factors:
    """Pooling, resizing: channels stay, positions change."""
    x = call.x
    return call.fix(x, [dim for dim in range(len(x.shape)) if x.shape[dim] != call.outputs[0][dim]])


def flip(call: Call) -> Factors:
    """Entries keep their labels, in the opposite order: the flip of those that are left is what is left of the flip."""
    x = call.x
    dims = set(call.dims("dims", of=x))
    axes = [(factor, tuple(axis for axis, dim in enumerate(factor.dims) if dim in dims)) for factor in x.factors]
    return tuple(Factor(factor.dims, np.flip(factor.ids, turned)) for factor, turned in axes)


def mixing(call: Call) -> Factors:
    """softmax, cumsum: the shape stays, and along the dimension the entries feel each other."""
    x = call.x
    dims = call.dims(of=x)
    for factor in x.factors:
        if set(factor.dims) <= set(dims):
            call.labels.mark_inexact(factor.ids)
    return (*call.fix(x, dims, inexact=True), *(f for f in x.factors if set(f.dims) <= set(dims)))


def ordering(call: Call) -> list[Factors]:
    """sort, topk: channels along the dimension change places."""
    x = call.x
    return [call.fix(x, call.dims(of=x))] * len(call.outputs)


def reduction(call: Call) -> list[Factors]:
    """Mean, sum, maximum ...: over channels the result feels every one of them."""
    x = call.x
    listed = call.args.get("dim") is not None and call.args["dim"] != []
    dims = call.dims(of=x) if listed else list(range(len(x.shape)))
    left = call.fix(x, dims, inexact=True)
    return [left if call.args.get("keepdim") else drop_dims(left, dims)] * len(call.outputs)


def extremum(call: Call) -> Factors | list[Factors]:
    """Maximum and minimum, which are element-wise when they are given two tensors."""
    return elementwise(call) if call.optional("other") else reduction(call)


def norm_by_channel(call: Call) -> Factors:
    """Batch and instance norm: one entry of every parameter a channel."""
    x = call.tensor("input")
    ids = call.channel(x, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        parameter = call.optional(name)
        if parameter is not None:
            call.same(ids, call.channel(parameter, 0), f"input of {call.op} is no channel dimension")
    if call.args.get("training") or call.args.get("use_input_stats"):
        for factor in x.without([1]):
            call.labels.mark_inexact(factor.ids)
    return (*x.without([1]), Factor((1,), ids)) if ids is not None else x.factors


def layer_norm(call: Call) -> Factors:
    """The mean is taken over the channels, so cutting some of them is inexact by nature."""
    x = call.tensor("input")
    normalized = set(range(len(x.shape) - len(call.args["normalized_shape"]), len(x.shape)))
    for factor in x.factors:
        if normalized & set(factor.dims):
            call.labels.mark_inexact(factor.ids)
    parameters = [value for name in ("weight", "bias") if (value := call.optional(name)) is not None]
    return merge(call, [x, *parameters], call.outputs[0])


def group_norm(call: Call) -> Factors:
    """Each group has its own mean: cutting whole groups is exact; one group for all is a layer norm."""
    x = call.tensor("input")
    ids = call.channel(x, 1)
    for name in ("weight", "bias"):
        parameter = call.optional(name)
        if parameter is not None:
            call.same(ids, call.channel(parameter, 0), "input of group_norm is no channel dimension")
    if ids is None:
        return x.factors
    groups = int(call.args["num_groups"])
    if groups == 1:
        call.labels.mark_inexact(ids)
    else:
        whole = ids.reshape(groups, -1)
        call.labels.tie(whole, whole[:, :1])
    return (*x.without([1]), Factor((1,), ids))


def prelu(call: Call) -> Factors:
    """One slope for all, or one a channel."""
    x, weight = call.x, call.tensor("weight")
    if weight.shape and weight.shape != (1,):
        call.same(call.channel(x, 1), call.channel(weight, 0), "input of prelu is no channel dimension")
    return x.factors


def glu(call: Call) -> Factors:
    """One half times the sigmoid of the other."""
    x = call.x
    dim = call.dim(of=x)
    ids = call.channel(x, dim)
    if ids is None:
        return x.factors
    first, second = ids.reshape(2, -1)
    call.labels.tie(first, second)
    return (*x.without([dim]), Factor((dim,), first))


def grid_sample(call: Call) -> Factors:
    """Channels of the image stay; the grid says where to look."""
    x, grid = call.tensor("input"), call.tensor("grid")
    call.labels.lock_value(grid, "grid to sample at")
    return call.fix(x, [0, *range(2, len(x.shape))])


def triangle(call: Call) -> Factors:
    """triu, tril: rows and columns have their places."""
    x = call.x
    return call.fix(x, [len(x.shape) - 2, len(x.shape) - 1])


def opaque(call: Call) -> Factors:
    """An operator without a rule: lock what flows in."""
    for value in call.tensors:
        call.labels.lock_value(value, f"no channel rule for {call.op}")
    return ()
