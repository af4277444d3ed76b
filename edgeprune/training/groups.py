"""How an optimizer treats the parameters: which decay, and which learn at a rate of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    *,
    special: Sequence[nn.Parameter] = (),
    factor: float = 1.0,
    decay_vectors: bool = False,
) -> list[dict[str, Any]]:
    """Return groups of the parameters that learn, as every torch optimizer takes them.

    Args:
        model: the network.
        learning_rate: of all but the special parameters.
        weight_decay: of weights of two and more dimensions.
        special: parameters that never decay and learn `factor` times as fast.
        factor: see `special`.
        decay_vectors: biases and the scales of norms decay as well.
    """
    own = {id(parameter) for parameter in special}
    rest = [one for one in model.parameters() if one.requires_grad and id(one) not in own]
    vectors = [one for one in rest if one.ndim <= 1]
    return [
        _group((one for one in rest if one.ndim > 1), learning_rate, weight_decay),
        _group(vectors, learning_rate, weight_decay if decay_vectors else 0.0),
        *([_group(special, learning_rate * factor, 0.0)] if special else []),
    ]


def _group(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> dict[str, Any]:
    return {"params": list(parameters), "lr": learning_rate, "weight_decay": weight_decay}
