from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edgeprune.runtimes.base import LayerTime


@given(st.lists(st.text()), st.text(), st.floats(allow_nan=False), st.lists(st.text()))
def test_a_row_survives_json(nodes: list[str], kind: str, us: float, behind: list[str]) -> None:
    row = LayerTime(tuple(nodes), kind, us, tuple(behind))
    assert LayerTime.from_json(json.loads(json.dumps(row.to_json()))) == row
