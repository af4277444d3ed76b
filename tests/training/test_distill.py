import math

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.training.distill import recovery_loss


def test_without_a_teacher_it_is_cross_entropy() -> None:
    # Softmax of (ln 3, 0) is (3/4, 1/4).
    logits = torch.tensor([[math.log(3), 0.0]])
    torch.testing.assert_close(recovery_loss(logits, torch.tensor([0])), torch.tensor(math.log(4 / 3)))
    torch.testing.assert_close(recovery_loss(logits, torch.tensor([1])), torch.tensor(math.log(4)))


def test_the_teachers_part_by_hand() -> None:
    # With T = 2 the logits 2 ln 3 and 0 soften to 3/4 and 1/4; the teacher says 1/2 and 1/2.
    student, teacher = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    divergence = 0.5 * math.log((1 / 2) / (3 / 4)) + 0.5 * math.log((1 / 2) / (1 / 4))
    hard = math.log(10 / 9)  # softmax of (2 ln 3, 0) is (9/10, 1/10)
    found = recovery_loss(student, torch.tensor([0]), teacher, weight=0.25, temperature=2.0)
    torch.testing.assert_close(found, torch.tensor(0.75 * hard + 0.25 * 4 * divergence))


@given(st.floats(0, 1), st.floats(0.5, 8))
def test_agreeing_with_the_teacher_costs_only_the_labels(weight: float, temperature: float) -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    labels = torch.tensor([0, 1])
    found = recovery_loss(logits, labels, logits, weight=weight, temperature=temperature)
    torch.testing.assert_close(found, (1 - weight) * F.cross_entropy(logits, labels), atol=1e-5, rtol=1e-5)


def test_label_smoothing_by_hand() -> None:
    # Smoothed by 0.2 over two classes: the target is (0.9, 0.1).
    logits = torch.tensor([[math.log(3), 0.0]])
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    torch.testing.assert_close(recovery_loss(logits, torch.tensor([0]), label_smoothing=0.2), torch.tensor(expected))


def test_bfloat16_logits_give_a_float32_loss() -> None:
    logits = torch.zeros(2, 3, dtype=torch.bfloat16)
    assert recovery_loss(logits, torch.tensor([0, 1]), logits, weight=0.5).dtype == torch.float32
