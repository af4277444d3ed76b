"""The loss that teaches a narrow network: the labels, and what the dense network says about the same images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def recovery_loss(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None = None,
    *,
    weight: float = 0.0,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return (1 - weight) * cross-entropy + weight * T^2 * KL(teacher || student), both softened by the temperature T.

    T^2 keeps the size of the second term's gradients independent of T (Hinton, Vinyals, Dean 2015, section 2).

    Args:
        logits: of the network that learns, (N, classes).
        labels: class numbers, (N,).
        teacher_logits: of the dense network on the same images, (N, classes); None leaves cross-entropy alone.
        weight: share of the teacher's term, from 0 to 1.
        temperature: T, above 0.
        label_smoothing: share of each label that is spread evenly over all classes, from 0 to 1.
    """
    logits = logits.float()  # bfloat16 from autocast has too few digits for a loss
    hard = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if teacher_logits is None:
        return hard
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return (1 - weight) * hard + weight * temperature**2 * soft
