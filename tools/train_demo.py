#!/usr/bin/env python3
"""Train the demo's network and write its weights: edgeprune/training/demo.safetensors.

    .venv/bin/python tools/train_demo.py        # two minutes on one core

One core and one seed: with more threads sums are rounded in another order, and the last digits differ.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save

from edgeprune.records import write_bytes
from edgeprune.training import demo
from edgeprune.training.loop import Recipe, evaluate, train

RECIPE = Recipe(epochs=10, learning_rate=0.1, weight_decay=5e-4, batch_size=64, warmup_epochs=1)
LEAST_ACCURACY = 0.97


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(RECIPE.seed)
    data = demo.demo_data()
    print(data.description)
    began = time.monotonic()
    model = train(demo.DemoNet(), data, RECIPE).eval()
    # float16 halves the file; the accuracy that counts is the one after the rounding.
    stored = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    model.load_state_dict(stored)
    accuracy = evaluate(model, data)
    print(f"{accuracy:.1%} of {data.val_size} validation images, after {time.monotonic() - began:.0f} s")
    if accuracy < LEAST_ACCURACY:
        print(f"below {LEAST_ACCURACY:.0%}: nothing written", file=sys.stderr)
        return 1
    path = Path(demo.__file__).with_name(demo.DEMO_WEIGHTS)
    write_bytes(path, save({name: value.contiguous() for name, value in stored.items()}))
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
