from __future__ import annotations

import json
import logging
import warnings

import pytest

from edgeprune.cli.options import Common
from edgeprune.cli.output import finish, print_json, running
from edgeprune.progress import SILENT
from tests.cli.fakes import EXPORTED, FakeResult


def test_quiet_shows_no_progress_but_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    options = Common(quiet=True)
    with running(options) as progress:
        assert progress is SILENT
    assert finish(options, FakeResult(EXPORTED)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Met: 5.7 ms measured on openvino")
    assert err == ""


@pytest.mark.parametrize("verbose", [False, True])
def test_libraries_warn_only_the_verbose(verbose: bool, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with running(Common(quiet=True, verbose=verbose)):
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            logging.getLogger("library").warning("odd")
    assert bool(caught) == verbose
    assert bool(caplog.messages) == verbose
    logging.getLogger("library").warning("heard again")
    assert "heard again" in caplog.messages


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": {"c": None}}
