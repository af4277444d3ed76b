"""What makes two networks the same network."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def state_digest(model: nn.Module) -> str:
    """Return a SHA-256 in hexadecimal over every name, dtype, shape and value of the state dict, device left out."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Viewed as bytes, because numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
