"""Arrays that go to an engine, and the torch outputs that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeprune.graph.inputs import eval_mode
from edgeprune.pruning.slim import flat_tensors
from edgeprune.training.data import Data

SAMPLES = 8


def sample_inputs(example_inputs: Sequence[Any] | Mapping[str, Any], data: Data | None, seed: int) -> list[np.ndarray]:
    """Return one array an input, SAMPLES rows each: calibration images where there are data, else normal noise."""
    if data is not None:
        images = torch.cat([x for x, _ in data.calibration(SAMPLES, seed)])
        return [images[:SAMPLES].numpy()]
    random = torch.Generator().manual_seed(seed)
    found = []
    for tensor in flat_tensors(example_inputs):
        if tensor.is_floating_point():
            found.append(torch.randn(SAMPLES, *tensor.shape[1:], generator=random).numpy())
        else:
            found.append(tensor.repeat(SAMPLES, *[1] * (tensor.ndim - 1)).numpy())
    return found


def torch_outputs(model: nn.Module, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the network's outputs in eval mode, one array an output, computed row by row as an engine does."""
    rows = []
    with torch.no_grad(), eval_mode(model):
        for at in range(len(inputs[0])):
            rows.append(flat_tensors(model(*(torch.from_numpy(one[at : at + 1]) for one in inputs))))
    return [torch.cat(column).numpy() for column in zip(*rows, strict=True)]


def val_arrays(data: Data, batch_size: int = 100) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the validation set as numpy (images, labels)."""
    for x, y in data.val_batches(batch_size):
        yield x.numpy(), y.numpy()
