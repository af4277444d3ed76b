"""Weights from a file into a network, without executing anything that the file holds."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeprune.errors import InputError

_PICKLED = (".pt", ".pth", ".th", ".ckpt", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
_SHOWN = 3


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the weights in `path` into `model`; every name and shape has to agree.

    Raises:
        InputError: no such file, not a state dict, code in a pickle, or weights of another network.
    """
    found = read_state_dict(path)
    own = model.state_dict()
    # Files older than torch 0.4.1 have no counters, which BatchNorm only needs for an average over all batches.
    missing = [name for name in own if name not in found and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in found if name not in own]
    reshaped = [
        f"{name} is {tuple(found[name].shape)} and not {tuple(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    differing = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    if any(differing.values()):
        told = "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in differing.items() if names)
        raise InputError(f"{path} holds the weights of another network: {told}", remedy="check --weights and MODEL")
    model.load_state_dict(found, strict=False)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file or a pickled state dict, wrappers and prefixes around the names undone.

    Raises:
        InputError: no such file, not a state dict, or code in a pickle.
    """
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist", remedy="check --weights")
    if path.suffix == ".safetensors":
        try:
            return _without_prefixes(load_file(path))
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, str(error)) from None
    if path.suffix not in _PICKLED:
        raise InputError(
            f"weights file {path} ends in {path.suffix!r}", remedy=f"give .safetensors, or {', '.join(_PICKLED)}"
        )
    return _without_prefixes(_unwrapped(path, _unpickle(path)))


def _unpickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols and TorchScript: what follows says it in one line
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch says by its message alone whether a file asks for code or is no pickle at all.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None and path.read_bytes()[:1] != pickle.PROTO:
            raise _unreadable(path, "it is no file that torch.save wrote") from None
        raise InputError(
            f"{path} holds more than weights{f': it asks for {asked[1]}' if asked else ''}, and code is not executed",
            remedy="where you trust the file, save its weights alone: "
            'safetensors.torch.save_file(model.state_dict(), "weights.safetensors")',
        ) from None
    except Exception as error:  # on other bytes torch raises whatever its unpickler stumbles over
        if path.read_bytes()[:1] not in (pickle.PROTO, b"P"):
            raise _unreadable(path, "it is no file that torch.save wrote") from None
        raise _unreadable(path, (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]) from None


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be read as weights: {reason}", remedy="check the file")


def _unwrapped(path: Path, content: Any) -> dict[str, Tensor]:
    for _ in range(len(_WRAPPERS)):
        for key in _WRAPPERS:
            if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
                content = content[key]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict", remedy="save model.state_dict()")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise InputError(
            f"{path} is not a state dict: {_some(others) + ' is not a tensor' if others else 'it is empty'}",
            remedy="save model.state_dict(), on its own or under the key 'state_dict'",
        )
    return dict(content)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES * 2:
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
    return state


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
