"""Random numbers that hang on a seed and on what they are for, and on nothing that was drawn before."""

from __future__ import annotations

import hashlib

import torch


def stream_seed(*parts: int) -> int:
    """Return a 63-bit seed that depends on every part, so that (seed 1, epoch 2) and (seed 2, epoch 1) differ."""
    digest = hashlib.sha256(" ".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int) -> torch.Generator:
    """Return a random generator of its own, seeded from `parts`."""
    return torch.Generator().manual_seed(stream_seed(*parts))
