from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import InputError
from edgeprune.targets.target import Fingerprint, Target, find_target, targets

PROFILE = (Path(__file__).parents[2] / "profiles" / "openvino.toml").read_text(encoding="utf-8")


def test_every_profile_is_read_and_sound() -> None:
    found = targets()
    assert {"jetson", "nvidia", "onnxruntime", "openvino"} <= set(found)
    for name, target in found.items():
        assert target.name == name
        assert target.precision in target.precisions
        assert set(target.devices) <= {"local", "ssh"}
        assert target.align >= 1
        if target.record:
            assert set(target.precisions) <= set(target.record.precisions)
        else:
            assert target.remedy


def test_an_unknown_target_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'jetson'"):
        find_target("jetsn")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("threads =", "thread =", "unknown key 'thread' .did you mean 'threads'"),
        ("threads = 1", "", "has no threads"),
        ("threads = 1", "threads = true", "threads = True is not a whole number"),
        ("align = 1", 'align = "1"', "align = '1' is not a whole number"),
        ('devices = ["local", "ssh"]', 'devices = "local"', "devices = 'local' is not a list"),
        ('devices = ["local", "ssh"]', "devices = [1]", "is not a list of texts"),
        ("threads = 1", "threads =", "is not TOML"),
    ],
)
def test_a_wrong_profile_is_refused(old: str, new: str, words: str) -> None:
    assert old in PROFILE
    with pytest.raises(InputError, match=words):
        Target.from_toml("openvino", PROFILE.replace(old, new))


TEXTS = st.dictionaries(st.text(), st.text())


@given(TEXTS)
def test_a_fingerprint_survives_json_and_forgets_the_order(values: dict[str, str]) -> None:
    one = Fingerprint(values)
    two = Fingerprint(dict(reversed(list(values.items()))))
    assert one == two == Fingerprint.from_json(json.loads(json.dumps(one.to_json())))
    assert hash(one) == hash(two)
    assert one.digest == two.digest
    assert one.differences(two) == {}


@given(TEXTS, TEXTS)
def test_equal_means_no_differences(one: dict[str, str], two: dict[str, str]) -> None:
    left, right = Fingerprint(one), Fingerprint(two)
    filled = {key: value for key, value in one.items() if value}, {key: value for key, value in two.items() if value}
    assert (left.differences(right) == {}) == (filled[0] == filled[1])


def test_differences_name_both_sides() -> None:
    here = Fingerprint({"threads": "1", "cpu": "A"})
    there = Fingerprint({"threads": "2", "board": "B"})
    assert here.differences(there) == {"board": ("", "B"), "cpu": ("A", ""), "threads": ("1", "2")}
    assert here.digest != there.digest
    assert len(here.digest) == 12
