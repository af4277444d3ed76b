"""Where a network comes from.

| written as         | what it is                                                                    | needs --input |
|--------------------|-------------------------------------------------------------------------------|---------------|
| `demo`             | the embedded example, with its weights and its data                           | no            |
| `torchvision:NAME` | a network of torchvision.models, without weights                              | seldom        |
| `timm:NAME`        | a network of timm, without weights                                            | seldom        |
| `FILE.py:FUNCTION` | what the user's function returns, with whatever weights it has                | yes           |
| a bundle's folder  | the compact network in it, to be cut further                                  | no            |
| a checkpoint's     | the network that `edgeprune train` ended with                                 | no            |

Both kinds of folders may also be given as the weights of the network that they were made from. Nothing is ever
downloaded. Another kind of source is a row in `_KINDS`.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeprune.artifacts import bundle as bundles
from edgeprune.artifacts import checkpoint as checkpoints
from edgeprune.artifacts.contents import is_bundle, read_manifest
from edgeprune.artifacts.weights import load_weights
from edgeprune.errors import InputError, MissingError, nearest
from edgeprune.graph.cuts import Cuts
from edgeprune.graph.inputs import captured_inputs, eval_mode, find_module
from edgeprune.training.data import DIGITS_NORMALISATION
from edgeprune.training.demo import DEMO_INPUT, demo_model
from edgeprune.training.scratch import was_trained
from edgeprune.training.state import state_digest
from edgeprune.units import format_shape, parse_shape
from edgeprune.usercode import call_function, is_function_name


@dataclass(frozen=True, eq=False)
class Source:
    """A network to work on.

    Attributes:
        name: as a person would name it, such as `resnet56`.
        origin: what names the network that the code builds: for a bundle, what that was made from.
        cuts: what a bundle has already cut from that network.
        structure: what training has built into that network before; None for nothing.
        importances: tensor -> one number an output channel, where a training for pruning left them.
        trained: it has weights from a file, or came with its own; None where that can't be told: a user's
            function returned it, and no BatchNorm of it was trained.
        model: the network, in eval mode, on the CPU; or the part of it that was asked for.
        input_shape: of the network's one input, the batch size first.
        inputs: what `model` is called with: random numbers, or what the part gets when the network runs on them.
        submodule: the part's name; empty for the whole network.
        data: the data that belong to it, as `load_data` takes them; None where none do.
        mean, std: the normalisation that its weights were trained with; None where that is not known.
        digest: SHA-256 over weights, structure, importances and, where there is one, the file that builds it.
    """

    name: str
    origin: str
    cuts: Cuts
    structure: Mapping[str, Any] | None
    importances: Mapping[str, np.ndarray]
    trained: bool | None
    model: nn.Module
    input_shape: tuple[int, ...]
    inputs: tuple[torch.Tensor, ...]
    submodule: str
    data: str | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    digest: str


@dataclass(frozen=True)
class _Found:
    """What a kind of source knows: the shape is None where only the user can tell."""

    name: str
    model: Any
    input_shape: tuple[int, ...] | None = None
    data: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    trained: bool | None = False
    code: bytes = b""


def load_source(
    text: str,
    *,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    images: tuple[int, ...] | None = None,
    submodule: str = "",
    seed: int = 0,
) -> Source:
    """Build the network that `text` names (see the table above), fill it with `weights`, and take a part of it.

    Without a weights file the network keeps what it was built with: the demo's weights, what the user's function
    loaded, or torch's random initialisation drawn from `seed`. torch's global random state stays as it was. Where
    neither `input_shape` is given nor the source has one, the network is taken to look at `images` of that shape.

    Raises:
        InputError: an unknown name, a function that raises or returns no network, weights of another network, no
            input shape where one is needed, or a network that does not take it.
        MissingError: timm is not installed.
    """
    origin = text
    if is_bundle(Path(text)) or checkpoints.is_checkpoint(Path(text)):
        if weights is not None:
            raise InputError(f"{text} has weights of its own", remedy="leave out --weights")
        origin, weights = _origin(Path(text)), Path(text)
    made, importances = _made(weights) if weights is not None and weights.is_dir() else ({}, {})
    submodule = submodule or made.get("submodule", "")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _find(origin)(origin)
    if not isinstance(found.model, nn.Module):
        raise InputError(
            f"{text} returned {type(found.model).__name__}, not a torch.nn.Module", remedy="return the network"
        )
    shape = input_shape or (parse_shape(made["input"]) if made else found.input_shape or images)
    if shape is None:
        raise InputError(f"the input shape of {text} is not known", remedy="give it, like --input 1x3x224x224")
    if weights is not None and not made:
        load_weights(found.model, weights)
    model = found.model.cpu().eval()
    inputs: tuple[Any, ...] = (_random_input(shape, seed),)
    tried(text, model, inputs)
    cuts, structure = (
        (bundles.read_cuts(weights), bundles.read_structure(weights)) if weights and made else (Cuts(), None)
    )
    in_part = made.get("submodule", "") == submodule
    if weights is not None and made and not in_part:
        _refuse_part(weights, submodule, of=made["submodule"], whole=not cuts and structure is None)
        model = bundles.load(weights, model).eval()
        importances = {
            name.removeprefix(f"{submodule}."): one
            for name, one in importances.items()
            if name.startswith(f"{submodule}.")
        }
    if submodule:
        model, inputs = part_of(model, submodule, inputs)
    if weights is not None and made and in_part:
        model = bundles.load(weights, model).eval()
    digest = hashlib.sha256(f"{state_digest(model)}\n{model}\n".encode() + found.code)
    for tensor, learned in importances.items():
        digest.update(f"{tensor} {learned.tolist()}\n".encode())
    return Source(
        name=f"{found.name}.{submodule}" if submodule else found.name,
        origin=origin,
        cuts=cuts,
        structure=structure,
        importances=importances,
        trained=found.trained if weights is None else True,
        model=model,
        input_shape=tuple(shape),
        inputs=inputs,
        submodule=submodule,
        data=None if submodule else found.data,
        mean=made.get("mean") or found.mean,
        std=made.get("std") or found.std,
        digest=digest.hexdigest(),
    )


def part_of(model: nn.Module, name: str, inputs: tuple[Any, ...]) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return a part of a network, with what it is called with when the network runs on `inputs`.

    Raises:
        InputError: there is no such part, or it is not called with tensors alone.
    """
    part = find_module(model, name)
    captured = captured_inputs(model, part, inputs)
    if not isinstance(captured, tuple) or not all(isinstance(one, torch.Tensor) for one in captured):
        raise InputError(
            f"{name} is not called with tensors alone", remedy="choose a part that takes tensors, by position"
        )
    return part, tuple(one.clone() for one in captured)


def _refuse_part(folder: Path, part: str, *, of: str, whole: bool) -> None:
    """Refuse to take a part of what a bundle or a checkpoint holds, unless that is a network as it was built.

    Raises:
        InputError: it is of another part, or its channels were cut.
    """
    if of:
        raise InputError(f"{folder} holds {of} alone, not {part}", remedy="leave out --submodule")
    if not whole:
        raise InputError(
            f"{folder} holds a network whose channels were cut, of which no part can be taken",
            remedy="leave out --submodule, or start from weights of the network before it was cut",
        )


def _made(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a bundle or a checkpoint was made from, and the importances that it brings.

    Raises:
        InputError: neither of the two, or a file of it is missing or was changed.
    """
    if checkpoints.is_checkpoint(folder):
        content = checkpoints.read(folder)
        return content["source"], checkpoints.importances(content)
    return read_manifest(folder)["source"], {}


def _origin(folder: Path) -> str:
    """Return what names the network that a bundle or a checkpoint was made from.

    Raises:
        InputError: that would execute code which only the folder names.
    """
    origin = str(_made(folder)[0]["model"])
    if is_function_name(origin):
        raise InputError(
            f"the network of {folder} is built by {origin}, and code is executed only where it is named",
            remedy=f"give {origin} --weights {folder}",
        )
    return origin


def _demo(text: str) -> _Found:
    mean, std = DIGITS_NORMALISATION.mean, DIGITS_NORMALISATION.std
    return _Found("demo", demo_model(), DEMO_INPUT, data="demo", mean=mean, std=std, trained=True)


def _torchvision(text: str) -> _Found:
    from torchvision import models  # a second to import, and only needed here

    name = text.partition(":")[2]
    if name not in models.list_models():
        raise InputError(
            f"torchvision has no network {name!r}{nearest(name, models.list_models())}",
            remedy="torchvision.models.list_models() lists them",
        )
    accepted = inspect.signature(models.get_model_builder(name)).parameters
    backbone = {"weights_backbone": None} if "weights_backbone" in accepted else {}  # else it is downloaded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet and Inception announce how they are initialised
        model = models.get_model(name, weights=None, **backbone)
    # The size that its published weights were trained for; only classifiers have one, and video has two.
    transforms = getattr(getattr(models.get_model_weights(name), "DEFAULT", None), "transforms", None)
    size = transforms.keywords.get("crop_size") if isinstance(transforms, partial) else None
    return _Found(name, model, (1, 3, size, size) if isinstance(size, int) else None)


def _timm(text: str) -> _Found:
    try:
        import timm
    except ImportError:
        raise MissingError(
            f"{text} needs timm, which is not installed", remedy="pip install 'edgeprune[timm]'"
        ) from None
    name = text.partition(":")[2]
    if not timm.is_model(name):
        raise InputError(
            f"timm has no network {name!r}{nearest(name, timm.list_models())}", remedy="timm.list_models() lists them"
        )
    model = timm.create_model(name, pretrained=False)
    described: Any = model.pretrained_cfg
    size = described.get("input_size")
    return _Found(name, model, (1, *size) if size else None)


def _user_function(text: str) -> _Found:
    model = call_function(text)
    path, _, function = text.rpartition(":")
    trained = (isinstance(model, nn.Module) and was_trained(model)) or None
    return _Found(function, model, trained=trained, code=Path(path).read_bytes())


_KINDS: tuple[tuple[Callable[[str], bool], Callable[[str], _Found]], ...] = (
    (lambda text: text == "demo", _demo),
    (lambda text: text.startswith("torchvision:"), _torchvision),
    (lambda text: text.startswith("timm:"), _timm),
    (is_function_name, _user_function),
)


def _find(text: str) -> Callable[[str], _Found]:
    for fits, load in _KINDS:
        if fits(text):
            return load
    raise InputError(
        f"MODEL {text!r} is not known{nearest(text, ('demo',))}",
        remedy="give demo, torchvision:NAME, timm:NAME, FILE.py:FUNCTION or a bundle's folder",
    )


def _random_input(shape: Sequence[int], seed: int) -> torch.Tensor:
    """Return normal numbers, drawn from `seed`.

    Raises:
        InputError: they don't fit into memory.
    """
    try:
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
    except (RuntimeError, TypeError, ValueError, OverflowError):  # torch's words depend on how far it comes
        raise InputError(
            f"an input of {format_shape(shape)} does not fit into memory", remedy="check --input"
        ) from None


def tried(text: str, model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """Run the network once, so that a shape that it does not take is an error of one line, here; return its outputs."""
    try:
        with eval_mode(model), torch.no_grad():
            return model(*inputs)
    except Exception as error:  # whatever the network's own code raises
        reason = (str(error).splitlines() or [""])[0]
        shape = next(format_shape(one.shape) for one in inputs if isinstance(one, torch.Tensor))
        raise InputError(
            f"{text} does not take an input of {shape}: {type(error).__name__}: {reason}",
            remedy="check --input, or the example input",
        ) from None
