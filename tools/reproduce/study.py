"""What the tables share: data with a part held out, cells that are done once, results, Markdown.

A cell is one training. Its result lies in OUT/cells/NAME.json with its weights beside it; a cell that is there is not
done again, and one that was interrupted goes on from its last epoch. OUT/results.json holds all cells with versions and
settings, OUT/table.md is made from it.

Accuracies of a cell, all on the test images:
    chosen   at the epoch that was best on the held-out images: what a fair comparison takes
    best     at the epoch that was best on the test images: what RNI's published notebook reports
    last     after the last epoch
At the short scale only the last epoch is judged: judging all of them would take as long as a quarter of the training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from edgeprune.progress import Progress
from edgeprune.records import write_bytes, write_json
from edgeprune.report.terminal import terminal_progress
from edgeprune.training.data import Data, load_data
from edgeprune.training.images import ImageArrays
from edgeprune.training.loop import Recipe, Trained, evaluate, fit
from edgeprune.training.methods import Method
from edgeprune.training.processes import is_first, wait_for_all
from edgeprune.training.seeds import generator

SCHEMA = "edgeprune.study/1"
CELL = "edgeprune.cell/1"
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_PACKAGES = ("edgeprune", "torch", "torchvision", "accelerate", "numpy")


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        epochs: of each training.
        seeds: how many runs each cell has.
        batch_size: images a step.
        learning_rate: the first one.
        images: training images that are used, held-out ones included; 0 for all.
        held_out: of them, kept for choosing the epoch, or the strength of a penalty.
        tested: test images; 0 for all.
        judged: every epoch is judged, so that one can be chosen; else only the last.
    """

    epochs: int
    seeds: int
    batch_size: int
    learning_rate: float = 0.1
    images: int = 0
    held_out: int = 5000
    tested: int = 0
    judged: bool = True

    @property
    def kinds(self) -> dict[str, str]:
        """The accuracies of a cell and what they are called in a table."""
        every = {"chosen": "held-out choice", "best": "best on test", "last": "last epoch"}
        return every if self.judged else {"last": "accuracy"}


@dataclass(frozen=True)
class Images:
    """Training images, with the held-out ones as their validation images, and the test images."""

    train: Data
    test: Data
    held_out: int


@dataclass
class Study:
    """One table in the making."""

    out: Path
    settings: dict[str, Any]
    scale: Scale
    images: Images
    progress: Progress
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)

    def cell(
        self,
        name: str,
        model: Callable[[], nn.Module],
        recipe: Recipe,
        method: Callable[[], Method],
        *,
        finished: Callable[[Trained, Method], Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Train once, or read what was trained; `finished` adds what later cells need to the result."""
        path = self.out / "cells" / f"{name}.json"
        if not path.is_file():
            started = time.perf_counter()
            self.progress.say(f"{name}:")
            chosen = method()
            trained = fit(
                model(),
                self.images.train,
                recipe,
                chosen,
                judge=self._judge if self.scale.judged else None,
                checkpoint=path.with_suffix(".ckpt"),
                progress=self.progress,
            )
            result = {
                "recipe": asdict(recipe),
                "method": dict(chosen.settings),
                **(accuracies(trained.settled) if self.scale.judged else {"last": self.tested(trained.model)}),
                "history": trained.history,
                "importances": {key: values.tolist() for key, values in trained.importances.items()},
                "seconds": round(time.perf_counter() - started, 1),
                **(finished(trained, chosen) if finished is not None else {}),
            }
            if is_first():
                save_model(trained.model, str(path.with_suffix(".safetensors")))
                write_json(path, CELL, result)
                path.with_suffix(".ckpt").unlink(missing_ok=True)
            wait_for_all()
        return self.known(name)

    def once(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Do a cell that trains nothing, or read what was found."""
        path = self.out / "cells" / f"{name}.json"
        if not path.is_file():
            result = dict(work())
            if is_first():
                write_json(path, CELL, result)
            wait_for_all()
        return self.known(name)

    def known(self, name: str) -> dict[str, Any]:
        """Return what a cell found, and nothing where it was not done."""
        path = self.out / "cells" / f"{name}.json"
        if path.is_file():
            self.cells[name] = json.loads(path.read_text())
        return self.cells.get(name, {})

    def weights(self, name: str, model: nn.Module) -> nn.Module:
        """Fill `model` with what a cell ended with, and return it."""
        load_model(model, str(self.out / "cells" / f"{name}.safetensors"))
        return model

    def write(self, table: str) -> None:
        """Write results.json and table.md; a table may still lack rows."""
        if not is_first():
            return
        versions = {name: version(name) for name in _PACKAGES}
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        brief = {
            name: {key: one for key, one in cell.items() if key != "importances"} for name, cell in self.cells.items()
        }
        content = {"settings": self.settings, "versions": versions, "device": device, "cells": brief}
        write_json(self.out / "results.json", SCHEMA, content)
        heading = "\n".join(
            f"- {name}: {value}" for name, value in (self.settings | {"device": device} | versions).items()
        )
        title = "## {table}, {network}, {scale} scale".format(**self.settings)
        write_bytes(self.out / "table.md", f"{title}\n\n{table}\n\n{heading}\n".encode())

    def tested(self, model: nn.Module) -> float:
        """Return the accuracy on the test images."""
        return evaluate(model, self.images.test)

    def held_out(self, model: nn.Module) -> float:
        """Return the accuracy on the held-out images."""
        return evaluate(model, self.images.train)

    def _judge(self, model: nn.Module) -> dict[str, float]:
        test = self.tested(model)
        return {"accuracy": self.held_out(model) if self.images.held_out else test, "test": test}


def accuracies(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the three accuracies on the test images, from the epochs of a network as it came out."""
    chosen = max(history, key=lambda entry: (entry["accuracy"], entry["epoch"]))
    return {
        "chosen": chosen["test"],
        "best": max(entry["test"] for entry in history),
        "last": history[-1]["test"],
    }


def arguments(text: str | None, networks: Sequence[str]) -> argparse.ArgumentParser:
    """Return the options that every table has."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=networks, default=networks[0])
    parser.add_argument("--data", required=True, help="npz with x_train, y_train, x_val, y_val; or a folder")
    parser.add_argument("--scale", choices=("paper", "short"), default="short")
    parser.add_argument("--out", type=Path, help="by default runs/TABLE-NETWORK-SCALE; a run there is gone on with")
    parser.add_argument("--epochs", type=int, help="of each training, in place of the scale's")
    parser.add_argument("--seeds", type=int, help="runs of each cell, in place of the scale's")
    parser.add_argument("--images", type=int, help="training images, in place of the scale's")
    parser.add_argument("--held-out", type=int, help="of these, for choosing the epoch")
    parser.add_argument("--tested", type=int, help="test images")
    parser.add_argument("--threads", type=int, help="of a CPU")
    return parser


def run(options: argparse.Namespace, table: str, scale: Scale, work: Callable[[Study], None]) -> None:
    """Open the data and do the cells; `work` writes the table."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    given = {name: getattr(options, name) for name in ("epochs", "seeds", "images", "held_out", "tested")}
    scale = replace(scale, **{name: value for name, value in given.items() if value is not None})
    out = options.out or Path("runs") / f"{table}-{options.network}-{options.scale}"
    images = opened(options.data, options.network, scale)
    used = {"trained_on": images.train.digest, "tested_on": images.test.digest}
    settings = {"table": table, "network": options.network, "scale": options.scale, **asdict(scale), **used}
    (out / "cells").mkdir(parents=True, exist_ok=True)
    before = out / "settings.json"
    if before.is_file() and json.loads(before.read_text()) != settings:
        raise SystemExit(f"{out} was begun with other settings ({before}); give the same ones, or another --out")
    if is_first():
        write_bytes(before, json.dumps(settings, indent=1).encode())
    settings["command"] = " ".join(["python", *sys.argv])
    settings["data"] = images.train.description
    with terminal_progress() as progress:
        work(study := Study(out, settings, scale, images, progress))
    if is_first():
        print(f"\n{(study.out / 'table.md').read_text()}\nwritten to {study.out}")


def opened(source: str, network: str, scale: Scale) -> Images:
    """Return images of CIFAR-10's kind with a part held out, the same for every seed; or those of ImageNet's kind."""
    if network == "resnet18":
        data = load_data(source, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), input_shape=(1, 3, 224, 224))
        return Images(data, data, 0)
    data = load_data(source, mean=CIFAR_MEAN, std=CIFAR_STD, input_shape=(1, 3, 32, 32))
    if not isinstance(data, ImageArrays):
        raise SystemExit(f"{source}: give an npz with x_train, y_train, x_val, y_val")
    # RNI's code shifts by up to 4 pixels and mirrors, which is what an npz of 32x32 images gets.
    order = torch.randperm(data.train_size, generator=generator(0))[: scale.images or data.train_size]
    held_out, used = order[: scale.held_out], order[scale.held_out :]
    tested = slice(0, scale.tested or data.val_size)
    train = replace(
        data,
        x_train=data.x_train[used],
        y_train=data.y_train[used],
        x_val=data.x_train[held_out],
        y_val=data.y_train[held_out],
    )
    return Images(train, replace(data, x_val=data.x_val[tested], y_val=data.y_val[tested]), len(held_out))


def spread(values: Sequence[float]) -> str:
    """Return accuracies as percent: the mean, and the standard deviation over the seeds where there are several."""
    mean = 100 * statistics.mean(values)
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ± {100 * statistics.stdev(values):.2f}"


def each(values: Sequence[float]) -> str:
    """Return accuracies as percent: the mean, the spread over the seeds, and each of them."""
    return f"{spread(values)} ({', '.join(f'{100 * value:.1f}' for value in values)})"


def percent(share: float) -> str:
    """Return a share as percent with one digit."""
    return f"{100 * share:.1f} %"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
