"""A cost with slopes, on a staircase that is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.graph.layers import Axis, EngineNode
from edgeprune.latency.predict import CostRow
from edgeprune.latency.slopes import LatencyCost


class Steps:
    """2 us, and 1 us for every 8 output channels begun, times the input channels."""

    asked = 0

    def __call__(self, cin: Any, cout: Any) -> np.ndarray:
        Steps.asked += 1
        return 2 + np.asarray(cin) * np.ceil(np.asarray(cout) / 8)


def table(known: bool = True) -> Any:
    node = EngineNode("b", "Conv", "", (4, 4), Axis(parts={"a": 1}), Axis(parts={"b": 1}))
    return SimpleNamespace(
        rows=(CostRow(("b",), "Conv", node),),
        dense=SimpleNamespace(widths={"a": 16, "b": 32}),
        table=SimpleNamespace(staircase=lambda family: Steps() if known else None),
        fixed_us=10.0,
        scale=1.5,
    )


def test_value_and_slopes_by_hand() -> None:
    cost = LatencyCost(table(), dense_ms=0.1)
    # 10 + 1.5 * (2 + 16 * 3) at 20 channels, of 100 us. A channel more of a: 3 steps; of b: from 12 to 28 channels
    # lie 2 steps of 16 us, on 16 channels.
    share, slopes = cost({"b": 20})
    assert share == pytest.approx((10 + 1.5 * 50) / 100)
    assert slopes == pytest.approx({"b": 1.5 * 32 / 16 / 100})
    share, slopes = cost({"a": 10, "b": 20})
    assert share == pytest.approx((10 + 1.5 * 32) / 100)
    assert slopes["a"] == pytest.approx(1.5 * 3 / 100)


def test_what_was_asked_is_known() -> None:
    cost, before = LatencyCost(table(), 1.0), Steps.asked
    assert cost({"b": 8}) == cost({"b": 8})
    assert Steps.asked == before + 1


def test_what_was_never_measured_or_is_gone_costs_nothing() -> None:
    assert LatencyCost(table(known=False), 1.0)({"b": 8}) == (0.01, {"b": 0.0})
    assert LatencyCost(table(), 1.0)({"b": 0}) == (0.01, {"b": 0.0})


def test_what_joins_two_tensors_stays_where_one_of_them_is_gone() -> None:
    joined = table()
    joined.rows = (replace(joined.rows[0], joins=True),)
    # 2 us are left of it: nothing comes in on the first side.
    assert LatencyCost(joined, 0.1)({"a": 0, "b": 16})[0] == pytest.approx((10 + 1.5 * 2) / 100)
