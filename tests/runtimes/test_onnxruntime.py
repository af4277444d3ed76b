from __future__ import annotations

import numpy as np
import pytest

from edgeprune.runtimes.onnxruntime import _intervals_us, _less, _numpy_name
from tests.contracts.runtime_contract import QuantizedContract
from tests.onnx_models import residual


class TestONNXRuntime(QuantizedContract):
    name = "onnxruntime"
    convolution = "Conv"

    def test_helping_threads_stop_with_the_inference(self) -> None:
        assert self.open(residual(), threads=2).properties["force_spinning_stop"] == "1"
        assert "force_spinning_stop" not in self.open(residual(), threads=1).properties


def test_a_node_takes_until_the_next_one_starts() -> None:
    # Two runs of three nodes. In the first they start at 10, 14 and 17 us and take 3.5, 1.5 and 5.5 with the half that
    # cutting takes away; in the second at 40, 45 and 49, and take 3.5, 2.5 and 4.5. Between two nodes lie 0.5, 1.5, 1.5
    # and 1.5 us, 1.25 on average, which the last ones have as well.
    starts, durations = (10, 14, 17, 40, 45, 49), (3, 1, 5, 3, 2, 4)
    events = [{"ts": start, "dur": duration} for start, duration in zip(starts, durations, strict=True)]
    assert _intervals_us(events, 3).tolist() == [[4, 3, 6.75], [5, 4, 5.75]]
    assert _intervals_us([{"ts": 1, "dur": 2}, {"ts": 9, "dur": 4}], 1).tolist() == [[2.5], [4.5]]


def test_what_the_profiler_costs_is_taken_off_every_node_alike() -> None:
    # Nine us longer, three nodes: three each, and something is left of the node that took less than that.
    assert _less(np.array([10.0, 2.0, 4.0]), 9.0) == [7.0, 0.1, 1.0]
    assert _less(np.array([10.0, 2.0]), -1.0) == [10.0, 2.0]  # quicker with it: a disturbance, nothing to take off


@pytest.mark.parametrize(
    ("theirs", "numpy"), [("tensor(float)", "float32"), ("tensor(int64)", "int64"), ("tensor(double)", "float64")]
)
def test_types_get_their_numpy_names(theirs: str, numpy: str) -> None:
    assert _numpy_name(theirs) == numpy
