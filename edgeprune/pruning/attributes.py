"""Table: module class -> how its attributes follow from its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def match_attributes(module: nn.Module, before: nn.Module) -> None:
    """Set the attributes of `module` that repeat sizes of its tensors; `before` is the module in the dense network."""
    for kind, match in _ATTRIBUTES.items():
        if isinstance(module, kind):
            match(module, before)
            return
    _attention(module, before)


def _attention(attention: Any, before: Any) -> None:
    """Count the heads that are left, in modules that keep them as timm does: an attribute beside a projection."""
    if not isinstance(getattr(before, "num_heads", None), int):
        return
    for name in ("qkv", "q", "to_qkv", "to_q", "q_proj", "query"):
        old, new = (getattr(module, name, None) for module in (before, attention))
        if isinstance(old, nn.Linear) and isinstance(new, nn.Linear):
            rows, dense = new.weight.shape[0], old.weight.shape[0]
            for size in ("num_heads", "attn_dim"):
                if isinstance(getattr(before, size, None), int) and getattr(before, size) * rows % dense == 0:
                    setattr(attention, size, getattr(before, size) * rows // dense)
            return


def _conv(conv: Any, before: Any) -> None:
    rows, columns = conv.weight.shape[:2]
    ends = (rows, columns * conv.groups)
    conv.in_channels, conv.out_channels = ends if conv.transposed else ends[::-1]


def _linear(linear: Any, before: Any) -> None:
    linear.out_features, linear.in_features = linear.weight.shape


def _batch_norm(norm: Any, before: Any) -> None:
    sized = norm.weight if norm.weight is not None else norm.running_mean
    if sized is not None:
        norm.num_features = sized.shape[0]


def _layer_norm(norm: Any, before: Any) -> None:
    if norm.weight is not None:
        norm.normalized_shape = tuple(norm.weight.shape)


def _group_norm(norm: Any, before: Any) -> None:
    if norm.weight is not None:
        norm.num_groups = max(1, before.num_groups * norm.weight.shape[0] // before.weight.shape[0])
        norm.num_channels = norm.weight.shape[0]


def _prelu(prelu: Any, before: Any) -> None:
    prelu.num_parameters = prelu.weight.shape[0]


def _embedding(embedding: Any, before: Any) -> None:
    embedding.num_embeddings, embedding.embedding_dim = embedding.weight.shape


_ATTRIBUTES: dict[type[nn.Module], Callable[[Any, Any], None]] = {
    nn.modules.conv._ConvNd: _conv,
    nn.Linear: _linear,
    nn.modules.batchnorm._NormBase: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: _prelu,
    nn.Embedding: _embedding,
}
