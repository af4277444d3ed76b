"""Two processes, as torchrun starts them, learn from one batch together.

python -m pytest -m slow tests/training/test_processes.py
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgeprune.training.images import ALL, Share
from edgeprune.training.lapp import Lapp, Settings
from edgeprune.training.loop import Recipe, train
from edgeprune.training.methods import Plain, Rni
from tests.training.test_lapp import INPUT, network
from tests.training.test_loop import two_colours

SCRIPT = """
import json, os, sys
import torch
from safetensors.torch import save_file
from edgeprune.training import learner, loop
from tests.training.test_processes import METHODS, RECIPE, START, two_colours

torch.set_num_threads(1)
seen = []
learn = learner.Learner.learn

def noted(self, images, labels, rate, step):
    seen.append([int(value * 1e6) for value in images[:, 0, 0, 0]])
    return learn(self, images, labels, rate, step)

learner.Learner.learn = noted
model = loop.fit(START[sys.argv[2]](), two_colours(), RECIPE, METHODS[sys.argv[2]]()).model
rank = os.environ["RANK"]
save_file(model.state_dict(), f"{sys.argv[1]}/{rank}.safetensors")
open(f"{sys.argv[1]}/{rank}.json", "w").write(json.dumps(seen))
"""

RECIPE = Recipe(epochs=2, learning_rate=0.1, batch_size=8, warmup_epochs=0.5)


def linear() -> nn.Module:
    """Return a network without BatchNorm, whose gradient of a batch is the mean of its parts' gradients."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


METHODS = {
    "none": Plain,
    "rni": lambda: Rni(0.01),
    "filters": lambda: Lapp(Settings(0.6, pruning=0.5), INPUT),
    "channels": lambda: Lapp(Settings(0.6, removes="channels", pruning=0.5), INPUT),
}
START = {"none": linear, "rni": network, "filters": network, "channels": network}


def two_processes(folder: Path, method: str) -> list[dict[str, torch.Tensor]]:
    """Train in two processes; return what each ended with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), method],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    weights = two_processes(tmp_path, "none")
    for name, alone in train(linear(), two_colours(), RECIPE).state_dict().items():
        assert torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weights[0][name], alone, atol=1e-5, rtol=1e-5)
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    expected = [
        [int(value * 1e6) for value in images[:, 0, 0, 0]]
        for epoch in range(2)
        for images, _ in two_colours().train_batches(8, epoch, 0)
    ]
    assert [one + other for one, other in zip(*seen, strict=True)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rni", "filters", "channels"])
def test_two_processes_stay_one_network(tmp_path: Path, method: str) -> None:
    """All that learns is the same in both; the statistics of BatchNorm are each process's own, until the next step."""
    one, other = two_processes(tmp_path, method)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one if "running" not in name)


def test_parts_of_a_batch_are_equal_and_meet_nowhere() -> None:
    parts = [Share(process, 3).part(10) for process in range(3)]
    assert [list(range(10))[part] for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert list(range(10))[ALL.part(10)] == list(range(10))
