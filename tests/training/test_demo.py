import torch

from edgeprune.training.demo import DEMO_INPUT, DemoNet, demo_data, demo_model
from edgeprune.training.loop import evaluate


def test_the_demo_knows_its_digits() -> None:
    model = demo_model()
    assert not any(module.training for module in model.modules())
    assert evaluate(model, demo_data()) >= 0.98  # tools/train_demo.py printed 99.4 %


def test_the_demo_takes_and_gives_what_it_says() -> None:
    model = DemoNet().eval()
    assert model(torch.zeros(DEMO_INPUT)).shape == (1, 10)


def test_the_demos_parameters_by_hand() -> None:
    def block(before: int, after: int) -> int:
        shortcut = before * after + 2 * after if before != after else 0
        return 9 * before * after + 9 * after * after + 4 * after + shortcut

    blocks = [(32, 32), (32, 32), (32, 48), (48, 48), (48, 64), (64, 64)]
    expected = 9 * 32 + 2 * 32 + sum(block(*sizes) for sizes in blocks) + 64 * 10 + 10
    assert sum(parameter.numel() for parameter in DemoNet().parameters()) == expected
