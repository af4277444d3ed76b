from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from edgeprune.cli.export import ExportOptions
from edgeprune.cli.options import NetworkOptions, PlanOptions
from edgeprune.cli.profile import ProfileOptions
from edgeprune.errors import EdgePruneError, InputError, MissingError
from edgeprune.job import Job
from edgeprune.units import LatencyBudget


def test_every_field_of_a_job_can_be_given() -> None:
    options = ExportOptions(
        model="torchvision:resnet18",
        weights=Path("w.safetensors"),
        input="1x3x8x8",
        submodule="layer1",
        seed=1,
        target="openvino",
        precision="fp32",
        threads=2,
        device=["local"],
        lock=["stem"],
        allow_inexact=True,
        align=4,
        latency="5ms",
        data="demo",
        mean=".5,.5,.5",
        std="1,1,1",
        no_mirror=True,
        criterion="l1",
        max_params=1000,
        max_size="2kB",
        strategy="global",
        out=Path("out"),
        epochs=2,
        max_drop=1.5,
        rounds=3,
        dry_run=True,
        resume=True,
        force=True,
        allow_unverified=True,
    )
    assert options.job() == Job(
        model="torchvision:resnet18",
        target="openvino",
        latency=LatencyBudget(ms=5),
        weights=Path("w.safetensors"),
        input_shape=(1, 3, 8, 8),
        submodule="layer1",
        data="demo",
        mean=(0.5, 0.5, 0.5),
        std=(1, 1, 1),
        no_mirror=True,
        precision="fp32",
        threads=2,
        devices=("local",),
        out=Path("out"),
        seed=1,
        epochs=2,
        max_drop=1.5,
        lock=("stem",),
        allow_inexact=True,
        align=4,
        rounds=3,
        criterion="l1",
        strategy="global",
        max_params=1000,
        max_size=2000,
        dry_run=True,
        resume=True,
        force=True,
        allow_unverified=True,
    )


def test_what_is_left_out_is_left_to_the_job() -> None:
    job = ExportOptions(model="demo", target="openvino", latency="5ms").job()
    assert job == Job("demo", "openvino", LatencyBudget(ms=5), out=Path("runs/demo-openvino"))
    assert ProfileOptions(model="demo", target="openvino").job() == Job("demo", "openvino")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ProfileOptions(target="openvino"), "no MODEL"),
        (ProfileOptions(model="demo"), "no target"),
        (ExportOptions(model="demo", target="openvino"), "no latency"),
        (PlanOptions(model="demo", target="openvino", mean="a,b"), "'a,b'"),
    ],
)
def test_what_is_missing_or_wrong_is_said(options: ProfileOptions, said: str) -> None:
    with pytest.raises(InputError, match=said):
        options.job()


@pytest.mark.parametrize(
    ("less", "more"), [(NetworkOptions, ProfileOptions), (NetworkOptions, PlanOptions), (PlanOptions, ExportOptions)]
)
def test_a_job_verb_takes_what_the_one_before_it_takes(less: type, more: type) -> None:
    assert {item.name for item in fields(less)} < {item.name for item in fields(more)}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        # A board that can't be there is told before anything that the rest of the command lacks.
        (
            ExportOptions(target="jetson", latency="10ms"),
            MissingError,
            "edgeprune doctor --target jetson",
        ),
        (ProfileOptions(model="demo", target="openvino", device=["board"]), InputError, "--device ssh://user@host"),
        (ProfileOptions(model="demo"), InputError, "add --target"),
        (ProfileOptions(target="openvino", device=["ssh://me@board"]), InputError, "name demo"),
    ],
)
def test_what_a_job_cannot_be_without(options: ProfileOptions, error: type[EdgePruneError], words: str) -> None:
    with pytest.raises(error) as caught:
        options.job()
    assert words in caught.value.remedy
