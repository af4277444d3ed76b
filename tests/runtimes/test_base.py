from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edgeprune.runtimes.base import LayerTime


@given(st.lists(st.text()), st.text(), st.floats(allow_nan=False))
def test_a_row_survives_json(nodes: list[str], kind: str, us: float) -> None:
    row = LayerTime(tuple(nodes), kind, us)
    assert LayerTime.from_json(json.loads(json.dumps(row.to_json()))) == row
