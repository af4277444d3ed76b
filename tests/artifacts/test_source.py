import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from edgeprune.artifacts import checkpoint as checkpoints
from edgeprune.artifacts.bundle import write_network
from edgeprune.artifacts.contents import write_manifest
from edgeprune.artifacts.source import load_source
from edgeprune.artifacts.subject import load_subject, python_subject
from edgeprune.errors import InputError, MissingError
from edgeprune.graph.cuts import Cuts
from edgeprune.training.loop import Trained

CODE = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())

def number():
    return 5

def fails():
    raise RuntimeError("no such layer")

def classifier():
    return nn.Sequential(small(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

class Parts(nn.Module):
    def forward(self, x):
        return x, x.mean((2, 3))

def parts():
    return nn.Sequential(small(), Parts())
"""
SHAPE = (1, 3, 8, 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    own = tmp_path / "models.py"
    own.write_text(CODE)
    return own


def test_the_demo_brings_everything() -> None:
    source = load_source("demo")
    assert (source.name, source.input_shape, source.data) == ("demo", (1, 1, 32, 32), "demo")
    assert source.mean is not None
    assert source.std is not None


def test_a_function_of_the_users_own(path: Path) -> None:
    source = load_source(f"{path}:small", input_shape=SHAPE)
    assert (source.name, source.input_shape, source.data, source.mean) == ("small", SHAPE, None, None)
    assert not any(module.training for module in source.model.modules())


def test_the_seed_decides_random_weights_and_torchs_random_state_stays(path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    digests = [load_source(f"{path}:small", input_shape=SHAPE, seed=seed).digest for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(2), expected)
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_changes_with_the_code(path: Path) -> None:
    before = load_source(f"{path}:small", input_shape=SHAPE).digest
    path.write_text(CODE + "\n# changed\n")
    assert load_source(f"{path}:small", input_shape=SHAPE).digest != before


def test_the_digest_changes_with_what_training_has_learned(path: Path, tmp_path: Path) -> None:
    model = load_source(f"{path}:small", input_shape=SHAPE).model
    digests = []
    for number, learned in enumerate(([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1])):
        folder = tmp_path / str(number)
        trained = Trained(model, [], {"1.weight": torch.tensor(learned)})
        checkpoints.save(folder, trained, Cuts(), None, {"source": {"input": "1x3x8x8"}})
        digests.append(load_source(f"{path}:small", weights=folder).digest)
    assert digests[0] == digests[1] != digests[2]


def test_weights_are_loaded(path: Path, tmp_path: Path) -> None:
    weights = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    torch.save({"state_dict": weights.state_dict()}, tmp_path / "w.pt")
    source = load_source(f"{path}:small", weights=tmp_path / "w.pt", input_shape=SHAPE)
    assert torch.equal(source.model.state_dict()["0.weight"], weights[0].weight)


@pytest.mark.parametrize(
    ("function", "told"),
    [("number", "returned int, not a torch.nn.Module"), ("fails", r"models\.py:12 raised RuntimeError: no such layer")],
)
def test_functions_that_give_no_network(path: Path, function: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_source(f"{path}:{function}", input_shape=SHAPE)


def test_an_input_shape_that_is_missing_or_wrong(path: Path) -> None:
    with pytest.raises(InputError, match=r"input shape of .* is not known"):
        load_source(f"{path}:small")
    with pytest.raises(InputError, match="does not take an input of 1x5x8x8: RuntimeError") as caught:
        load_source(f"{path}:small", input_shape=(1, 5, 8, 8))
    assert "\n" not in caught.value.message


def test_torchvision_knows_its_input_sizes() -> None:
    source = load_source("torchvision:squeezenet1_1")
    assert (source.name, source.input_shape, source.data) == ("squeezenet1_1", (1, 3, 224, 224), None)
    smaller = load_source("torchvision:squeezenet1_1", input_shape=(1, 3, 64, 64))
    assert smaller.input_shape == (1, 3, 64, 64)
    assert smaller.digest == source.digest


def test_timm() -> None:
    source = load_source("timm:test_resnet")
    assert source.name == "test_resnet"
    assert source.input_shape == (1, 3, 160, 160)


def test_timm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingError) as caught:
        load_source("timm:resnet18")
    assert "edgeprune[timm]" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("torchvision:resnet19", "did you mean 'resnet1"),
        ("timm:resnet19", "timm has no network 'resnet19'"),
        ("dmo", "did you mean 'demo'"),
        ("resnet18", "MODEL 'resnet18' is not known"),
    ],
)
def test_unknown_names(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_source(text)


def test_a_part_of_a_network(path: Path) -> None:
    path.write_text(CODE + "\ndef deep():\n    return nn.Sequential(small(), nn.Sequential(nn.Conv2d(4, 5, 1)))\n")
    source = load_source(f"{path}:deep", input_shape=SHAPE, submodule="1")
    assert (source.name, source.submodule, source.input_shape) == ("deep.1", "1", SHAPE)
    assert [name for name, _ in source.model.named_parameters()] == ["0.weight", "0.bias"]
    # What the part gets: a 3x3 convolution without padding makes 6x6 of 8x8.
    assert [tuple(one.shape) for one in source.inputs] == [(1, 4, 6, 6)]
    with pytest.raises(InputError, match="no module 'l'"):
        load_source(f"{path}:deep", input_shape=SHAPE, submodule="l")


def test_a_part_of_a_network_from_python() -> None:
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1))
    subject = python_subject(whole, torch.randn(SHAPE), None, "1")
    assert torch.equal(subject.model.state_dict()["weight"], whole[1].weight)
    assert (subject.name, subject.example_inputs[0].shape, subject.input_shape) == ("Sequential.1", (1, 4, 6, 6), SHAPE)


def test_networks_of_the_same_weights_and_another_structure_differ() -> None:
    weights = nn.Conv2d(3, 4, 3).state_dict()
    digests = []
    for stride in (1, 1, 2):
        network = nn.Conv2d(3, 4, 3, stride=stride)
        network.load_state_dict(weights)
        digests.append(python_subject(network, torch.zeros(SHAPE), None).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_part_is_not_trained_on_the_networks_data(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data can't be used with 0 alone"):
        load_subject(f"{path}:small", input_shape=SHAPE, data=str(tmp_path / "data.npz"), submodule="0")


def images(folder: Path, height: int, width: int, classes: int) -> str:
    pixels, labels = np.zeros((classes, height, width, 3), np.uint8), np.arange(classes)
    np.savez(folder / "images.npz", x_train=pixels, y_train=labels, x_val=pixels, y_val=labels)
    return str(folder / "images.npz")


def test_the_data_tell_the_input_where_nobody_else_does(path: Path, tmp_path: Path) -> None:
    subject = load_subject(f"{path}:classifier", data=images(tmp_path, 9, 12, 2))
    assert subject.input_shape == (1, 3, 9, 12)
    with pytest.raises(InputError, match=r"input shape of .* is not known"):
        load_subject(f"{path}:small", data=str(path.parent))


def test_more_classes_than_outputs_are_told_before_anything_is_measured(path: Path, tmp_path: Path) -> None:
    path.write_text("from torch import nn\n\ndef flat():\n    return nn.Sequential(nn.Flatten(), nn.Linear(27, 4))\n")
    assert load_subject(f"{path}:flat", data=images(tmp_path, 3, 3, 4)).data is not None
    with pytest.raises(InputError, match="labels count 5 classes and the network has 4 outputs"):
        load_subject(f"{path}:flat", data=images(tmp_path, 3, 3, 5))
    network = nn.Sequential(nn.Flatten(), nn.Linear(27, 4))
    with pytest.raises(InputError, match="Sequential does not take an input of 1x3x4x4: RuntimeError"):
        python_subject(network, torch.zeros(1, 3, 4, 4), images(tmp_path, 4, 4, 5))
    with pytest.raises(InputError, match="labels count 5 classes"):
        python_subject(network, torch.zeros(1, 3, 3, 3), images(tmp_path, 3, 3, 5))


@pytest.mark.parametrize(
    ("function", "seen"),
    [("small", r"a tensor \(1, 4, 6, 6\)"), ("parts", "a tuple")],
)
def test_data_are_for_classifiers(path: Path, tmp_path: Path, function: str, seen: str) -> None:
    with pytest.raises(InputError, match=rf"{function} returned {seen}, and accuracy needs one tensor \(N, classes\)"):
        load_subject(f"{path}:{function}", data=images(tmp_path, 8, 8, 2))
    assert load_subject(f"{path}:{function}", input_shape=SHAPE).data is None


def test_data_are_images_alone(tmp_path: Path) -> None:
    inputs = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 2))
    with pytest.raises(InputError, match="Identity takes 2 inputs, and data are images alone"):
        python_subject(nn.Identity(), inputs, images(tmp_path, 8, 8, 2))


def test_python_objects_are_copied_and_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double().train()
    x = torch.ones(SHAPE, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    subject = python_subject(model, (x, torch.tensor([3])), None)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in subject.model.modules())
    assert {tensor.dtype for tensor in subject.model.parameters()} == {torch.float32}
    assert [one.dtype for one in subject.example_inputs] == [torch.float32, torch.int64]
    subject.model[0].weight.data.zero_()
    subject.example_inputs[0].zero_()
    assert model[0].weight.abs().sum() > 0
    assert x.sum() == 3 * 8 * 8


def test_named_data_of_a_python_object_are_normalised_as_asked(tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.zeros(SHAPE)
    data = images(tmp_path, 8, 8, 2)
    subject = python_subject(model, x, data, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert subject.data is not None
    # Black pixels: (0 / 255 - 0.5) / 0.25
    assert next(iter(subject.data.val_batches(2)))[0].unique().tolist() == [-2.0]
    assert (subject.source()["mean"], subject.source()["std"]) == ([0.5] * 3, [0.25] * 3)
    with pytest.raises(InputError, match="the images of ImageArrays are numbers already"):
        python_subject(model, x, subject.data, mean=(0.5, 0.5, 0.5))


def test_an_input_that_memory_cannot_hold(path: Path) -> None:
    for shape in ((1, 3, 10**7, 10**7), (1, 3, 10**10, 10**10), (1, 3, 10**30, 1)):
        with pytest.raises(InputError, match=f"an input of 1x3x{shape[2]}x.* does not fit into memory"):
            load_source(f"{path}:small", input_shape=shape)


def test_what_was_made_with_a_normalisation_keeps_it(path: Path, tmp_path: Path) -> None:
    """Also where the network it was made from brings another one, as the demo does."""
    images, labels = np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int64)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_val=images, y_val=labels)
    given: dict[str, Any] = {"data": str(tmp_path / "data.npz"), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    first = load_subject(f"{path}:classifier", input_shape=SHAPE, **given)
    made = tmp_path / "made"
    write_network(made, first.model, Cuts(), None)
    (made / "model.onnx").write_bytes(b"")
    write_manifest(made, {"source": first.source()})
    second = load_subject(f"{path}:classifier", weights=made, data=given["data"])
    assert (
        second.source()
        == first.source()
        == {
            "model": f"{path}:classifier",
            "submodule": "",
            "input": "1x3x8x8",
            "data": given["data"],
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        }
    )
    # (0 / 255 - 0.5) / 0.25
    assert second.data is not None
    assert next(iter(second.data.val_batches(1)))[0].unique().tolist() == [-2.0]


def made_of(folder: Path, text: str, model: nn.Module, input_shape: str, submodule: str = "") -> Path:
    """Write a bundle of a network that was not cut, with no engine."""
    write_network(folder, model, Cuts(), None)
    (folder / "model.onnx").write_bytes(b"")
    source = {"model": text, "submodule": submodule, "input": input_shape, "data": None, "mean": None, "std": None}
    write_manifest(folder, {"source": source})
    return folder


def test_what_was_made_for_an_input_keeps_it(tmp_path: Path) -> None:
    """Also where the network's name stands for another one: 1x3x224x224 here."""
    made = made_of(tmp_path / "made", "torchvision:squeezenet1_1", models.squeezenet1_1(), "1x3x64x64")
    assert load_source(str(made)).input_shape == (1, 3, 64, 64)
    assert load_source("torchvision:squeezenet1_1", weights=made).input_shape == (1, 3, 64, 64)
    assert load_source(str(made), input_shape=(1, 3, 96, 96)).input_shape == (1, 3, 96, 96)


def test_a_part_is_taken_of_what_was_made_whole(path: Path, tmp_path: Path) -> None:
    code = "\ndef deep():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 5, 1)))\n"
    path.write_text(CODE + code)
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 5, 1)))
    made = made_of(tmp_path / "whole", f"{path}:deep", whole, "1x3x8x8")
    part = load_source(f"{path}:deep", weights=made, submodule="1")
    assert torch.equal(part.model.get_parameter("0.weight"), whole.get_parameter("1.0.weight"))
    of_part = made_of(tmp_path / "part", f"{path}:deep", whole[1], "1x3x8x8", submodule="1")
    with pytest.raises(InputError, match="holds 1 alone, not 0"):
        load_source(f"{path}:deep", weights=of_part, submodule="0")


@pytest.mark.parametrize(
    "inputs", [(torch.ones(SHAPE), True), (torch.ones(SHAPE), (torch.ones(1), torch.ones(1))), torch.ones(2, 3, 8, 8)]
)
def test_inputs_that_a_bundle_can_t_hold_are_told_at_once(inputs: Any) -> None:
    with pytest.raises(InputError, match="not one sample as a tensor"):
        python_subject(nn.Conv2d(3, 4, 1), inputs, None)


def test_what_a_function_returns_is_not_normalised_again(tmp_path: Path) -> None:
    """The demo brings a normalisation; its images are numbers already."""
    code = "import torch\n\ndef loaders():\n    batch = torch.full((2, 1, 32, 32), 7.0), torch.arange(2)\n"
    (tmp_path / "data.py").write_text(code + "    return [batch], [batch]\n")
    subject = load_subject("demo", data=f"{tmp_path / 'data.py'}:loaders")
    assert (subject.mean, subject.std) == (None, None)
    assert subject.data is not None
    assert next(iter(subject.data.val_batches(2)))[0].unique().tolist() == [7.0]
