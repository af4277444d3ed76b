"""How a network is called: its inputs, its parts, and the mode that it runs in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from edgeprune.errors import InputError, nearest


def as_inputs(example_inputs: Any) -> tuple[Any, ...] | Mapping[str, Any]:
    """Return what a network is called with as a tuple of positional arguments or a mapping of named ones."""
    if isinstance(example_inputs, Mapping):
        return dict(example_inputs)
    return example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)


def call_with(model: nn.Module, inputs: tuple[Any, ...] | Mapping[str, Any]) -> Any:
    """Run a network on positional or named arguments."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def find_module(model: nn.Module, name: str) -> nn.Module:
    """Return the module of that name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = [path for path, _ in model.named_modules()]
        raise InputError(
            f"{type(model).__name__} has no module {name!r}{nearest(name, names)}",
            remedy="`model.named_modules()` lists the names",
        ) from None


class _Reached(Exception):
    """A submodule got its inputs, so the rest need not run."""


def captured_inputs(
    model: nn.Module, part: nn.Module, inputs: tuple[Any, ...] | Mapping[str, Any]
) -> tuple[Any, ...] | Mapping[str, Any]:
    """Return what `part` is first called with when `model` runs on `inputs`.

    Raises:
        InputError: it is never called, or with both positional and named arguments.
    """
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append((args, named))
        raise _Reached

    hook = part.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with eval_mode(model), torch.no_grad():
            call_with(model, inputs)
    except _Reached:
        pass
    finally:
        hook.remove()
    if not seen or (seen[0][0] and seen[0][1]):
        raise InputError(
            "the submodule is never called" if not seen else "the submodule is called with positional and named inputs",
            remedy="choose a submodule that the network calls with one kind of arguments",
        )
    return seen[0][0] or seen[0][1]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and back as it was at the end."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
