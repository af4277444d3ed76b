from __future__ import annotations

import pytest

from edgeprune.runtimes.onnxruntime import _middle_mean, _numpy_name
from tests.contracts.runtime_contract import QuantizedContract


class TestONNXRuntime(QuantizedContract):
    name = "onnxruntime"
    convolution = "Conv"


def test_the_middle_half_counts() -> None:
    # Sorted 1 2 3 4 5 6 7 1000; a quarter of 8 is cut off on each side, (3 + 4 + 5 + 6) / 4 is left.
    assert _middle_mean([1000, 1, 2, 3, 4, 5, 6, 7]) == 4.5
    assert _middle_mean([7]) == 7


@pytest.mark.parametrize(
    ("theirs", "numpy"), [("tensor(float)", "float32"), ("tensor(int64)", "int64"), ("tensor(double)", "float64")]
)
def test_types_get_their_numpy_names(theirs: str, numpy: str) -> None:
    assert _numpy_name(theirs) == numpy
