from __future__ import annotations

import pytest

from edgeprune.runtimes.onnxruntime import _intervals_us, _numpy_name, _profiler_us
from tests.contracts.runtime_contract import QuantizedContract


class TestONNXRuntime(QuantizedContract):
    name = "onnxruntime"
    convolution = "Conv"


def test_a_node_takes_until_the_next_one_starts() -> None:
    # Two runs of three nodes. In the first they start at 10, 14 and 17 us and take 3.5, 1.5 and 5.5 with the half that
    # cutting takes away; in the second at 40, 45 and 49, and take 3.5, 2.5 and 4.5. Between two nodes lie 0.5, 1.5, 1.5
    # and 1.5 us, 1.25 on average, which the last ones have as well.
    starts, durations = (10, 14, 17, 40, 45, 49), (3, 1, 5, 3, 2, 4)
    events = [{"ts": start, "dur": duration} for start, duration in zip(starts, durations, strict=True)]
    assert _intervals_us(events, 3).tolist() == [[4, 3, 6.75], [5, 4, 5.75]]
    assert _intervals_us([{"ts": 1, "dur": 2}, {"ts": 9, "dur": 4}], 1).tolist() == [[2.5], [4.5]]


def test_the_profiler_is_known_to_cost_something() -> None:
    assert 0.1 < _profiler_us() < 100


@pytest.mark.parametrize(
    ("theirs", "numpy"), [("tensor(float)", "float32"), ("tensor(int64)", "int64"), ("tensor(double)", "float64")]
)
def test_types_get_their_numpy_names(theirs: str, numpy: str) -> None:
    assert _numpy_name(theirs) == numpy
