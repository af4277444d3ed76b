"""The network at hand with its data, from a command line's words or from Python objects."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from edgeprune.artifacts.source import load_source, part_of, tried
from edgeprune.errors import InputError
from edgeprune.graph.copies import copied
from edgeprune.graph.cuts import Cuts
from edgeprune.training.data import Data, image_shape, load_data
from edgeprune.training.loaders import paired
from edgeprune.training.scratch import was_never_trained
from edgeprune.training.state import state_digest
from edgeprune.units import format_shape
from edgeprune.usercode import is_function_name

Network: TypeAlias = nn.Module
"""The word by which the floors above name a network, without torch."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is made smaller.

    Attributes:
        name: as a person would name it.
        origin: what names the network that the code builds; empty for a Python object.
        cuts: what a bundle has already cut from that.
        model: the network to start from.
        example_inputs: one batch of size 1.
        data: training and validation images; None where there are none.
        digest: hash of the weights, the structure and the importances.
        input_shape: of the input of the network that the code builds.
        submodule: the part of that network that `model` is; empty for all of it.
        structure: what training has built into that network before any cut; None for nothing.
        importances: tensor -> one number an output channel, where a training for pruning left them.
        trained: the weights are from a file, or came with the network; None where nothing tells.
        data_name: what names the data; None for none, and for Python objects.
        mean, std: how their pixels are normalised, as asked for or as the network brings it; None for neither.
    """

    name: str
    origin: str
    cuts: Cuts
    model: Network
    example_inputs: tuple[Any, ...]
    data: Data | None
    digest: str
    input_shape: tuple[int, ...] = ()
    submodule: str = ""
    structure: Mapping[str, Any] | None = None
    importances: Mapping[str, np.ndarray] = field(default_factory=dict)
    trained: bool | None = None
    data_name: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    @property
    def untrained(self) -> bool:
        """Whether the weights are known to be those that the network was made with."""
        return self.trained is False or (self.trained is None and was_never_trained(self.model))

    def source(self) -> dict[str, Any]:
        """Return, as JSON, what it takes to load the network that the code builds, and its data, again."""
        return {
            "model": self.origin,
            "submodule": self.submodule,
            "input": format_shape(self.input_shape),
            "data": self.data_name,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
        }


def load_subject(
    model: str,
    *,
    weights: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    submodule: str = "",
    data: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    mirror: bool = True,
    seed: int = 0,
) -> Subject:
    """Load what a command line names; what is left out is the network's own, if it has any.

    Raises:
        InputError: a name, a file or a shape that does not fit.
        MissingError: a package that the model or the data need.
    """
    shape = image_shape(data) if data and not submodule else None
    source = load_source(model, weights=weights, input_shape=input_shape, images=shape, submodule=submodule, seed=seed)
    named = data or source.data
    if named and not is_function_name(named):  # what a function returns is normalised already
        mean, std = mean or source.mean, std or source.std
    _refuse_data(named, source.submodule)
    how: dict[str, Any] = {"mean": mean, "std": std, "mirror": mirror, "seed": seed}
    images = load_data(named, input_shape=source.input_shape, **how) if named else None
    _check_classes(source.name, source.model, source.inputs, images)
    return Subject(
        name=source.name,
        origin=source.origin,
        cuts=source.cuts,
        model=source.model,
        example_inputs=source.inputs,
        data=images,
        digest=source.digest,
        input_shape=source.input_shape,
        submodule=source.submodule,
        structure=source.structure,
        importances=source.importances,
        trained=source.trained,
        data_name=named,
        mean=mean,
        std=std,
    )


def python_subject(
    model: nn.Module,
    example_inputs: Any,
    data: Data | Sequence[Any] | str | None,
    submodule: str = "",
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    mirror: bool = True,
    seed: int = 0,
) -> Subject:
    """Take a network, or a part of it, and an example input as Python objects; both are copied (`taken`).

    `data` may be two loaders, or a source as on the command line; `mean`, `std`, `mirror` and `seed` are for such a
    one, as in `load_data`.

    Raises:
        InputError: the example input does not hold one sample, the part can't be taken, the data don't fit the network,
            or a normalisation of images that are numbers already.
    """
    _refuse_data(data, submodule)
    if (mean is not None or std is not None or not mirror) and data is not None and not isinstance(data, str):
        raise InputError(
            f"mean, std or no_mirror is given, and the images of {type(data).__name__} are numbers already",
            remedy="leave them out, or give the data by their name",
        )
    model, inputs = taken(model, example_inputs)
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    for one in inputs:
        if not isinstance(one, torch.Tensor) or not one.ndim or one.shape[0] != 1:
            seen = tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__
            raise InputError(
                f"an example input is {seen}, not one sample as a tensor",
                remedy="give a tensor, or a tuple of tensors, of batch size 1: latency is that of one sample",
            )
    shape = tuple(inputs[0].shape) if inputs else ()
    images: Data | None
    if isinstance(data, str):
        images = load_data(data, mean=mean, std=std, mirror=mirror, input_shape=shape, seed=seed)
    else:
        images = paired("data", lambda: data, shape, seed) if isinstance(data, Sequence) else data
    _check_classes(type(model).__name__, model, inputs, images)
    name = f"{type(model).__name__}.{submodule}" if submodule else type(model).__name__
    if submodule:
        model, inputs = part_of(model, submodule, inputs)
    return Subject(
        name=name,
        origin="",
        cuts=Cuts(),
        model=model,
        example_inputs=inputs,
        data=images,
        digest=hashlib.sha256(f"{state_digest(model)}\n{model}\n".encode()).hexdigest(),
        input_shape=shape,
        submodule=submodule,
        data_name=data if isinstance(data, str) else None,
        mean=mean,
        std=std,
    )


def taken(model: nn.Module, example_inputs: Any) -> tuple[nn.Module, Any]:
    """Return copies of a network and of what it is called with: on the CPU, in float32, the network in eval mode.

    Everything here is computed so, whatever the engine's precision; the caller's own stay where and as they are.

    Raises:
        InputError: the network can't be copied.
    """
    return copied(model, {}).cpu().float().eval(), tree_map(_on_cpu, example_inputs)


def _on_cpu(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype, copy=True)


def _check_classes(name: str, model: nn.Module, inputs: tuple[Any, ...], data: Data | None) -> None:
    """Refuse data on which the network can't be judged: it has to give one tensor (N, classes) for images alone.

    Raises:
        InputError: it takes or gives something else, does not take the inputs, or there are more classes than outputs.
    """
    if data is None:
        return
    if len(inputs) != 1:
        raise InputError(
            f"{name} takes {len(inputs)} inputs, and data are images alone", remedy="leave the data out (no --data)"
        )
    outputs = tried(name, model, inputs)
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        seen = (
            f"a tensor {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else f"a {type(outputs).__name__}"
        )
        raise InputError(
            f"{name} returned {seen}, and accuracy needs one tensor (N, classes)",
            remedy="leave the data out (no --data): nothing is trained then, and no accuracy is measured",
        )
    if data.classes > outputs.shape[1]:
        raise InputError(
            f"the data's labels count {data.classes} classes and the network has {outputs.shape[1]} outputs",
            remedy="count the classes from 0, or give the network that was trained on these data",
        )


def _refuse_data(data: object, submodule: str) -> None:
    if data is not None and submodule:
        raise InputError(
            f"data can't be used with {submodule} alone: its outputs are no classes", remedy="leave the data out"
        )
