"""Table: ATen operator -> channel rule. Adding an operator is one row; `rule` adds one from outside.

A rule gets a `Call` and returns the labels of the output: a tuple of factors, or one tuple for each of several outputs.
On the way it ties labels that are the same channel and locks those that can't be cut. An operator that is not in the
table, or a call that its rule does not fit, locks what flows in.
"""

# ruff: noqa: SIM905 -- words in lines read better than a list of strings

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from edgeprune.errors import InputError
from edgeprune.graph import movement, pointwise, products
from edgeprune.graph.call import Rule

_ELEMENTWISE = """
add sub mul div rsub pow maximum minimum where clamp clamp_min clamp_max clip lerp addcmul addcdiv fmod remainder
floor_divide true_divide __and__ __or__ __xor__ __iand__ __ior__
eq ne lt le gt ge logical_and logical_or logical_not logical_xor
masked_fill atan2 bitwise_and bitwise_or bitwise_not copy
relu relu6 leaky_relu elu selu celu gelu silu mish hardtanh
hardsigmoid hardswish sigmoid tanh softplus softsign log_sigmoid
exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal abs neg sign sin cos tan asin acos atan sinh cosh erf
floor ceil round trunc frac threshold isnan
isinf isfinite nan_to_num hardshrink softshrink rrelu logit xlogy hypot
""".split()
_KEEP = """
dropout dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout native_dropout clone contiguous detach
detach_copy to _to_copy type_as float double half bfloat16 alias lift_fresh_copy bernoulli fill
zero zeros_like ones_like
full_like empty_like rand_like randn_like
""".split()
_SPATIAL = """
max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool2d
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact1d
_upsample_nearest_exact2d
_upsample_nearest_exact3d
""".split()
_NOTHING = """
arange linspace zeros ones full eye scalar_tensor empty rand randn sym_size new_zeros new_ones new_full new_empty
new_empty_strided meshgrid tensor empty_permuted
""".split()

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, pointwise.elementwise),
    **dict.fromkeys(_KEEP, pointwise.keep),
    **dict.fromkeys(_SPATIAL, pointwise.spatial),
    **dict.fromkeys(_NOTHING, pointwise.nothing),
    **dict.fromkeys(["softmax", "_softmax", "log_softmax", "cumsum", "cumprod"], pointwise.mixing),
    "flip": pointwise.flip,
    **dict.fromkeys(["sort", "topk", "argsort"], pointwise.ordering),
    **dict.fromkeys(["mean", "sum", "amax", "amin", "prod", "std", "var", "var_mean", "std_mean"], pointwise.reduction),
    **dict.fromkeys(["norm", "linalg_vector_norm", "argmax", "argmin", "any", "all", "logsumexp"], pointwise.reduction),
    **dict.fromkeys(["max", "min"], pointwise.extremum),
    **dict.fromkeys(["batch_norm", "instance_norm"], pointwise.norm_by_channel),
    **dict.fromkeys(["layer_norm", "rms_norm", "native_layer_norm"], pointwise.layer_norm),
    **dict.fromkeys(["prelu", "_prelu_kernel"], pointwise.prelu),
    **dict.fromkeys(["grid_sampler", "grid_sampler_2d", "grid_sampler_3d"], pointwise.grid_sample),
    **dict.fromkeys(["triu", "tril"], pointwise.triangle),
    "group_norm": pointwise.group_norm,
    "glu": pointwise.glu,
    **dict.fromkeys(["conv1d", "conv2d", "conv3d", "convolution"], products.convolution),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], products.convolution),
    **dict.fromkeys(["matmul", "mm", "bmm"], products.matmul),
    "linear": products.linear,
    "embedding": products.embedding,
    "einsum": products.einsum,
    "scaled_dot_product_attention": products.attention,
    **dict.fromkeys("permute transpose swapaxes swapdims movedim t numpy_T mT adjoint".split(), movement.permute),
    **dict.fromkeys(["view", "_unsafe_view", "view_as", "reshape", "reshape_as"], movement.reshape),
    **dict.fromkeys(["flatten", "unflatten", "squeeze", "unsqueeze", "ravel"], movement.reshape),
    **dict.fromkeys(["split", "split_with_sizes", "chunk", "tensor_split"], movement.split),
    **dict.fromkeys(["select"], movement.select),
    **dict.fromkeys(["slice", "narrow"], movement.slice_),
    **dict.fromkeys(["pad", "constant_pad_nd"], movement.pad),
    **dict.fromkeys([f"{how}_pad{n}d" for how in ("reflection", "replication") for n in (1, 2, 3)], movement.pad),
    **dict.fromkeys(["cat", "concat", "concatenate"], movement.concatenate),
    **dict.fromkeys(["expand", "expand_as", "broadcast_to"], movement.expand),
    **dict.fromkeys(["repeat", "tile"], movement.repeat),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle"], movement.pixel_shuffle),
    "stack": movement.stack,
    "unbind": movement.unbind,
    "roll": movement.roll,
    "index": movement.index,
    "index_select": movement.index_select,
    "repeat_interleave": movement.repeat_interleave,
    "channel_shuffle": movement.channel_shuffle,
    "native_channel_shuffle": movement.channel_shuffle,
    "im2col": movement.unfold_patches,
    "unfold": movement.unfold,
}  # fmt: skip


MODULE_RULES: dict[type[nn.Module], Rule] = {}
"""Rules of whole modules, for what their operators show can't be followed."""


def rule(what: str | type[nn.Module]) -> Callable[[Rule], Rule]:
    """Register a channel rule for an operator or a module class of your own.

        @edgeprune.rule("mylib::fused_relu")      # made with torch.library.custom_op
        def fused_relu(call):
            return call.tensor("x").factors

        @edgeprune.rule(MyNorm)                   # this class alone, no subclasses
        def my_norm(call):
            call.same(call.channel(call.x, 1), call.channel(call.tensor("weight"), 0), "not by channel")
            return call.x.factors

    A module's rule gets what flows into the module as `input`, `input_1` ... and its parameters and buffers by name.
    What such a module multiplies is not counted among the network's layers.

    Raises:
        InputError: there is a rule for it already.
    """

    def register(function: Rule) -> Rule:
        name = what.split("::")[-1] if isinstance(what, str) else what.__name__
        if name in RULES if isinstance(what, str) else what in MODULE_RULES:
            raise InputError(f"there is a channel rule for {name!r} already", remedy="give yours another name")
        if isinstance(what, str):
            RULES[name] = function
        else:
            MODULE_RULES[what] = function
        return function

    return register
