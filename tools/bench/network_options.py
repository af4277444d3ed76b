"""The options that are alike in several benchmarks: a trained network with its data, or networks on a target."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgeprune.errors import InputError
from edgeprune.targets.target import find_target
from edgeprune.units import parse_floats, parse_shape


def target_name(name: str) -> str:
    """Return the name of a target.

    Raises:
        InputError: there is no such target.
    """
    return find_target(name).name


class Parser(argparse.ArgumentParser):
    """A parser that shows its description as it is written, and what edgeprune's own parsers refuse as bad usage."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        try:
            return super().parse_known_args(*args, **options)
        except InputError as error:
            self.error(str(error))


def parser_of(description: str | None) -> Parser:
    """Return a parser with a benchmark's description as it is written, and the options that `network_of` reads."""
    parser = Parser(description)
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--input", type=parse_shape)
    parser.add_argument("--mean", type=parse_floats)
    parser.add_argument("--std", type=parse_floats)
    return parser


def parser_of_many(description: str | None, out: str) -> Parser:
    """Return a parser of networks without data, the target that they are measured on, and the folder of what is known.

    Args:
        description: of the benchmark, as it is written.
        out: the folder by default.
    """
    parser = Parser(description)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--input", type=parse_shape)
    parser.add_argument("--target", type=target_name, default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


def network_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the network and its data as `Job` and `load_subject` take them."""
    return {
        "model": options.model,
        "weights": options.weights,
        "input_shape": options.input,
        "data": options.data,
        "mean": options.mean,
        "std": options.std,
    }
