from __future__ import annotations

import re

import pytest

from edgeprune import errors
from edgeprune.errors import EdgePruneError, nearest


def tree() -> dict[str, int]:
    found = {error.__name__: error.exit_code for error in EdgePruneError.__subclasses__()}
    return {"EdgePruneError": EdgePruneError.exit_code, **found}


def test_the_exit_codes_are_those_of_the_interface() -> None:
    assert tree() == {
        "EdgePruneError": 1,
        "InputError": 2,
        "MissingError": 3,
        "BudgetError": 4,
        "OverBudgetError": 5,
        "AccuracyError": 6,
        "NumericsError": 7,
        "TableError": 8,
        "InterruptedRun": 130,
    }


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"(\w+) +(\d+)  ", errors.__doc__ or "")
    assert {name: int(code) for name, code in drawn} == tree()


def test_an_error_says_what_and_what_next() -> None:
    error = EdgePruneError("x is 3", remedy="make it 4")
    assert (str(error), error.message, error.remedy) == ("x is 3; make it 4", "x is 3", "make it 4")
    assert str(EdgePruneError("x is 3")) == "x is 3"


@pytest.mark.parametrize(("name", "said"), [("opnvino", " (did you mean 'openvino'?)"), ("zzz", ""), ("", "")])
def test_nearest(name: str, said: str) -> None:
    assert nearest(name, ["openvino", "jetson"]) == said
