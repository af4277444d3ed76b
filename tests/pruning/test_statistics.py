import pytest
import torch
from torch import nn

from edgeprune.errors import InputError
from edgeprune.pruning.statistics import reestimate

LABELS = torch.zeros(2, dtype=torch.int64)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return two batches of one channel: values 0 and 2, then 4 and 10."""
    return [(torch.tensor([[0.0], [2.0]]), LABELS), (torch.tensor([[4.0], [10.0]]), LABELS)]


def test_the_averages_by_hand() -> None:
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(99)
    reestimate(nn.Sequential(norm), batches())
    # Means 1 and 7; unbiased variances (1 + 1) / 1 = 2 and (9 + 9) / 1 = 18.
    assert norm.running_mean.item() == pytest.approx(4)
    assert norm.running_var.item() == pytest.approx(10)


def test_a_later_norm_sees_what_the_earlier_one_gives_in_training() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1), nn.BatchNorm1d(1, affine=False))
    with torch.no_grad():
        model[0].weight.fill_(3)
        model[0].bias.fill_(5)
    reestimate(model, batches())
    # Each batch leaves the first norm with mean 5 and values 5 +- 3, so unbiased variance (9 + 9) / 1.
    assert model[1].running_mean.item() == pytest.approx(5, rel=1e-4)
    assert model[1].running_var.item() == pytest.approx(18, rel=1e-4)


def test_modes_momenta_and_parameters_come_back() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1, momentum=0.3), nn.BatchNorm1d(1)).train()
    model[2].eval()
    weight = model[1].weight.clone()
    reestimate(model, batches())
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert (model[1].momentum, model[2].momentum) == (0.3, 0.1)
    assert torch.equal(model[1].weight, weight)
    assert model[1].running_mean.item() == pytest.approx(4)  # no value was dropped


def test_no_batch_is_refused_and_changes_nothing() -> None:
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(99)
    with pytest.raises(InputError, match="no images"):
        reestimate(nn.Sequential(norm), [])
    assert norm.running_mean.item() == 99


def test_networks_without_statistics_are_left_alone() -> None:
    reestimate(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, track_running_stats=False)), [])


def test_momenta_come_back_after_an_error() -> None:
    norm = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="expected"):
        reestimate(nn.Sequential(norm), [(torch.zeros(2, 3, 4, 5), LABELS)])
    assert norm.momentum == 0.1
    assert norm.training
