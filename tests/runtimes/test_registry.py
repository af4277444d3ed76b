from __future__ import annotations

import dataclasses

import pytest

from edgeprune.errors import InputError, MissingError
from edgeprune.runtimes import registry
from edgeprune.runtimes.registry import find_record, open_runtime, records, register


@pytest.fixture
def own_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RECORDS", dict(registry._RECORDS))


def test_the_cpu_runtimes_are_known_and_installed() -> None:
    assert list(records())[:2] == ["openvino", "onnxruntime"]
    assert all(records()[name].installed() for name in ("openvino", "onnxruntime"))


@pytest.mark.usefixtures("own_records")
def test_a_name_is_given_once() -> None:
    with pytest.raises(InputError, match="registered already, as edgeprune"):
        register(find_record("openvino"))


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'openvino'") as caught:
        open_runtime("openvno")
    assert "onnxruntime" in caught.value.remedy


@pytest.mark.usefixtures("own_records")
def test_a_missing_package_is_said_with_its_command() -> None:
    register(dataclasses.replace(find_record("openvino"), name="absent", import_name="no_such_module_here"))
    with pytest.raises(MissingError, match="no_such_module_here") as caught:
        open_runtime("absent")
    assert caught.value.remedy == "pip install openvino"
