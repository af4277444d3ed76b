from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune.cli.config import Config, defaults, read_config
from edgeprune.cli.doctor import DoctorOptions
from edgeprune.cli.export import ExportOptions
from edgeprune.cli.main import run
from edgeprune.cli.profile import ProfileOptions
from edgeprune.cli.targets import TargetsOptions
from edgeprune.errors import InputError
from tests.cli.fakes import FakePipeline

FILE = """
model = "demo"
target = "openvino"
latency = "60%"
threads = 2
max-drop = 1
lock = ["stem", "head*"]
mean = [0.5, 0.5, 0.5]
std = [1, 1, 1]
force = true
"""


def test_every_option_can_stand_in_a_file(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "edgeprune.toml").write_text(FILE)
    assert run(["export"]) == 0
    ((_, (job, _)),) = pipeline.calls
    assert (job.model, job.target, job.threads, job.max_drop, job.force) == ("demo", "openvino", 2, 1.0, True)
    assert job.latency.fraction == 0.6
    assert job.lock == ("stem", "head*")
    assert (job.mean, job.std) == ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


def test_the_command_line_wins(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "edgeprune.toml").write_text(FILE)
    assert run(["export", "--threads", "1", "--lock", "layer1"]) == 0
    ((_, (job, _)),) = pipeline.calls
    assert (job.threads, job.lock) == (1, ("layer1",))


def test_each_value_is_shown_with_its_origin(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.edgeprune]\nthreads = 2\n")
    assert run(["export", "--latency", "5ms", "--show-config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema"] == "edgeprune.config/1"
    assert shown["options"]["threads"] == {"value": 2, "origin": "pyproject.toml [tool.edgeprune]"}
    assert shown["options"]["latency"] == {"value": "5ms", "origin": "command line"}
    assert shown["options"]["rounds"] == {"value": 6, "origin": "default"}
    assert not pipeline.calls
    assert run(["export", "--show-config", "--lock", "stem", "--lock", "head*"]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: " ".join(row[1].split()) for row in rows if len(row) == 2}
    assert shown["threads"] == "2 pyproject.toml [tool.edgeprune]"
    assert shown["lock"] == "stem, head* command line"
    assert shown["force"] == "false default"


def test_a_file_s_option_that_a_verb_has_no_use_for_is_left_out(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edgeprune.toml").write_text(
        'model = "demo"\nmethod = "rni"\nlatency = "60%"\ntarget = "openvino"\nthreads = 2\nshift = 3\nout = "runs/x"\n'
    )
    assert run(["train"]) == 0
    assert run(["train", "--method", "lapp"]) == 0
    assert run(["train", "--method", "lapp", "--macs", "40%"]) == 0
    jobs = [arguments[0] for _, arguments in pipeline.calls]
    assert [(job.shift, str(job.latency), job.target, job.threads) for job in jobs] == [
        (3.0, "None", None, None),
        (None, "60%", "openvino", 2),
        (None, "None", None, None),
    ]
    assert run(["train", "--latency", "50%"]) == 2
    assert "--latency was given, which does not apply to rni" in capsys.readouterr().err
    assert run(["train", "--show-config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["options"]
    assert shown["latency"] == {"value": None, "origin": "default"}
    assert shown["shift"] == {"value": 3.0, "origin": "edgeprune.toml"}


def test_a_network_with_weights_of_its_own_does_without_the_file_s(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    (tmp_path / "images.npz").touch()
    (tmp_path / "edgeprune.toml").write_text(
        'weights = "weights.pt"\ndata = "images.npz"\ntarget = "openvino"\nlatency = "60%"\n'
    )
    assert run(["export", "demo"]) == 0
    assert run(["export", "torchvision:resnet18"]) == 0
    jobs = [arguments[0] for _, arguments in pipeline.calls]
    assert [(job.weights, job.data) for job in jobs] == [(None, None), (Path("weights.pt"), "images.npz")]


def test_a_bundle_s_folder_is_not_where_a_page_or_another_bundle_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edgeprune.toml").write_text('out = "runs/x"\n')
    for verb, folder in (("report", None), ("replay", None), ("export", "runs/x")):
        assert run([verb, "--show-config", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["options"]["out"]["value"] == folder


def test_of_two_that_exclude_each_other_the_one_that_was_typed_counts(pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "edgeprune.toml").write_text(FILE)
    assert run(["export", "--resume"]) == 0
    job = pipeline.calls[0][1][0]
    assert (job.resume, job.force) == (True, False)


def test_of_several_devices_a_verb_for_one_takes_the_first(pipeline: FakePipeline, tmp_path: Path) -> None:
    file = tmp_path / "edgeprune.toml"
    file.write_text('device = ["ssh://me@one", "ssh://me@two"]\ntarget = "openvino"\nmodel = "demo"\n')
    given = defaults(read_config(tmp_path), {"profile": ProfileOptions, "doctor": DoctorOptions})
    assert given["profile"]["device"] == ["ssh://me@one", "ssh://me@two"]
    assert given["doctor"]["device"] == "ssh://me@one"


def test_its_own_file_hides_the_shared_one(tmp_path: Path) -> None:
    assert read_config(tmp_path) == Config()
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert read_config(tmp_path) == Config()
    (tmp_path / "pyproject.toml").write_text("[tool.edgeprune]\nthreads = 2\n")
    assert read_config(tmp_path).values == {"threads": 2}
    (tmp_path / "edgeprune.toml").write_text("threads = 3\n")
    assert read_config(tmp_path) == Config("edgeprune.toml", {"threads": 3})


def test_a_key_counts_for_every_verb_that_has_it() -> None:
    given = defaults(Config("f", {"threads": 2, "json": True}), {"export": ExportOptions, "targets": TargetsOptions})
    assert given == {"export": {"threads": "2", "json": True}, "targets": {"json": True}}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("latncy", "5ms", "did you mean 'latency'"),
        ("max_drop", 1, "did you mean 'max-drop'"),
        ("show-config", True, "not an option"),
        ("force", "yes", "true or false"),
        ("threads", True, "no value"),
        ("threads", {"a": 1}, "no value"),
        ("device", [], "names nothing"),
    ],
)
def test_what_is_no_option_is_refused(key: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        defaults(Config("edgeprune.toml", {key: value}), {"export": ExportOptions})


def test_a_value_of_another_kind_is_one_line(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edgeprune.toml").write_text('threads = "two"\n')
    assert run(["export"]) == 2
    assert "--threads" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "said"), [("[tool]\nedgeprune = 3", "tool.edgeprune is no table"), ("tool = 3", "")])
def test_what_is_no_table(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    if said:
        with pytest.raises(InputError, match=said):
            read_config(tmp_path)
    assert run(["targets", "--json"]) == (2 if said else 0)
