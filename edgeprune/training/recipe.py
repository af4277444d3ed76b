"""How a network is trained: rates, batches, losses."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov's momentum, linear warm-up, then a cosine down to zero, or steps.

    The defaults are those of a short recovery. Measured on ResNet-20 as `tools/bench/compare_peers.py --epochs 2` cuts
    and refits it at 70, 50 and 35 % of its latency (90.0, 82.3 and 69.2 % of 1,000 validation images of CIFAR-10; 4,000
    training images, seed 0), with this default changed: learning rate 0.001 gives 90.0, 85.7 and 76.2 %; 0.002, at the
    last two, 85.0 and 76.5 %; 0.004 gives 88.4, 83.9 and 75.6 %. Training from scratch wants a far larger one.

    Attributes:
        epochs: passes over the training images; 0 trains nothing.
        learning_rate: the largest one, right after the warm-up.
        momentum: of the gradient, from 0 to 1.
        weight_decay: on weights of two and more dimensions; biases and BatchNorm have none.
        decay_vectors: biases and the scales of BatchNorms decay as well, but for those that RNI bounds.
        batch_size: images a step, of all processes together.
        warmup_epochs: passes (or a part of one) in which the learning rate rises from zero.
        milestones: shares of the training, each in (0, 1), after which the rate is a tenth; none means a cosine.
        distillation: share of the dense network's answers in the loss, from 0 to 1; no part where there is no teacher.
        temperature: by which both networks' answers are softened.
        label_smoothing: share of each label that is spread over all classes, from 0 to 1.
        seed: of the images' order and variation, and of dropout.
    """

    epochs: int = 3
    learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_vectors: bool = False
    batch_size: int = 32
    warmup_epochs: float = 0.25
    milestones: tuple[float, ...] = ()
    distillation: float = 0.9
    temperature: float = 4.0
    label_smoothing: float = 0.0
    seed: int = 0

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""
        total, warmup = self.epochs * steps_per_epoch, self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        if self.milestones:
            return self.learning_rate * 0.1 ** sum(step >= share * total for share in self.milestones)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))
