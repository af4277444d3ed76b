import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from edgeprune.artifacts.weights import load_weights, read_state_dict
from edgeprune.errors import InputError


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def same_state(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.th", "w.ckpt"])
def test_every_format(tmp_path: Path, name: str) -> None:
    source, model = network(), network()
    save = save_file if name.endswith("safetensors") else torch.save
    save(source.state_dict(), tmp_path / name)
    load_weights(model, tmp_path / name)
    assert same_state(model, source)


@given(
    wrappers=st.lists(st.sampled_from(["state_dict", "model", "model_state_dict"]), max_size=2),
    prefixes=st.lists(st.sampled_from(["module.", "_orig_mod."]), max_size=2, unique=True),
)
def test_wrappers_and_prefixes_are_undone(
    tmp_path_factory: pytest.TempPathFactory, wrappers: list[str], prefixes: list[str]
) -> None:
    state = network().state_dict()
    content: dict[str, Any] = {"".join(prefixes) + name: tensor for name, tensor in state.items()}
    for wrapper in wrappers:
        content = {"epoch": 3, wrapper: content}
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(content, path)
    found = read_state_dict(path)
    assert list(found) == list(state)


def test_a_prefix_of_some_names_only_is_part_of_the_names(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w.pt")
    assert set(read_state_dict(tmp_path / "w.pt")) == {"module.a", "b"}


def test_counters_that_old_files_lack_stay(tmp_path: Path) -> None:
    state = network().state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pt")
    load_weights(network(), tmp_path / "w.pt")


def test_weights_of_another_network_are_refused_with_the_keys(tmp_path: Path) -> None:
    state = network().state_dict()
    state["0.weight"] = torch.zeros(2, 1, 5, 5)
    state["head.weight"] = state.pop("1.weight")
    torch.save(state, tmp_path / "w.pt")
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "w.pt")
    assert caught.value.message.endswith(
        "of another network: 1 missing (1.weight); 1 unexpected (head.weight); "
        "1 of another shape (0.weight is (2, 1, 5, 5) and not (2, 1, 3, 3))"
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_long_lists_of_keys_are_cut_short(tmp_path: Path) -> None:
    torch.save({f"layer{number}": torch.zeros(1) for number in range(9)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"9 unexpected \(layer0, layer1, layer2 \.\.\.\)"):
        load_weights(network(), tmp_path / "w.pt")


class Command:
    """What a malicious pickle holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["torch", "pickle 2", "pickle 4", "module"])
def test_code_in_a_pickle_is_never_executed(tmp_path: Path, form: str) -> None:
    path, made = tmp_path / "w.pt", tmp_path / "made"
    if form == "torch":
        torch.save({"weight": torch.zeros(1), "extra": Command(made)}, path)
    elif form == "module":
        torch.save(network(), path)
    else:
        path.write_bytes(pickle.dumps(Command(made), protocol=int(form[-1])))
    with pytest.raises(InputError, match="code is not executed") as caught:
        read_state_dict(path)
    assert "safetensors" in caught.value.remedy
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"some text", bytes(100), bytes(range(137, 250))])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_files_that_hold_something_else(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as weights") as caught:
        read_state_dict(tmp_path / name)
    assert "\n" not in caught.value.message
    if name == "w.pt" and content == b"some text":
        assert "no file that torch.save wrote" in caught.value.message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([torch.zeros(1)], "holds a list"),
        ({}, "it is empty"),
        ({"weight": torch.zeros(1), "epoch": 3}, "epoch is not a tensor"),
    ],
)
def test_things_that_are_no_state_dict(tmp_path: Path, content: Any, told: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=told):
        read_state_dict(tmp_path / "w.pt")


def test_names_of_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_state_dict(tmp_path / "gone.pt")
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"ends in '\.onnx'"):
        read_state_dict(tmp_path / "w.onnx")
