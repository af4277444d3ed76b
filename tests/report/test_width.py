from __future__ import annotations

from typing import Any

import pytest

from tests.report.test_text import shown


def plans(**changed: Any) -> dict[str, Any]:
    point = {"width": 16, "value": 0.2, "kept": 0.8, "ms": 9.0, "saved_ms": 2.0}
    whole = {"width": 32, "value": 0.25, "kept": 1.0, "ms": 11.0, "saved_ms": 0.0}
    runner_up = {"width": 8, "value": 0.7, "lost": 0.1, "ms": 9.5, "others_changed": 1}
    group = {"group": "stem", "modules": ["stem"], "of": 32, "width": 16, "fixed": None, "curve": [point, whole]}
    group |= {"channels": {"least_kept": 0.5, "most_removed": 0.25}, "runner_up": runner_up, **changed}
    explained = {"module": "fc", "locked": "the network's output", "groups": [group]}
    plan = {"budget": 10.0, "predicted": 9.0, "band": None, "value": 0.8, "kept": 0.8, "plan": {}, "explain": explained}
    latency = {"dense": 12.0, "floor": 3.0}
    return {"schema": "edgeprune.plans/1", "target": "openvino", "latency_ms": latency, "plans": [plan]}


def test_a_width_for_a_person() -> None:
    text = shown(plans())
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "Its own output stays whole: the network's output" in rows
    assert "16 80.0 % 9 ms 2 ms chosen" in rows
    assert "32 100.0 % 11 ms 0 us over the budget" in rows
    assert "Channels: the least that stays scores 0.5, the most important that goes 0.25" in rows
    # 0.1 of a dense network that is worth 0.8 / 0.8.
    assert any(row.startswith("Runner-up: 8 channels; the best plan with them loses 10.0 %") for row in rows)
    assert any(row.endswith("takes 9.5 ms and changes 1 other group") for row in rows)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"channels": {"least_kept": 0.5, "most_removed": None}}, "Channels: the least that stays scores 0.5\n"),
        ({"runner_up": None}, "Runner-up: none"),
        ({"fixed": "its cut is inexact", "width": 32}, "Group stem: 32 of 32 channels; its cut is inexact\n"),
    ],
)
def test_what_there_is_not_is_left_out(changed: dict[str, Any], said: str) -> None:
    assert said in shown(plans(**changed))
