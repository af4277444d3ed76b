from __future__ import annotations

import time

import numpy as np
import pytest

from edgeprune.runtimes.base import SessionSettings
from edgeprune.runtimes.interruptions import Stopwatch, explained, within
from edgeprune.runtimes.registry import open_runtime
from tests.onnx_models import residual


def test_what_is_above_the_processor_time_comes_off_in_proportion() -> None:
    assert within(60.0, [30.0, 90.0, 0.0]) == [15.0, 45.0, 0.0]


def test_what_is_within_stays() -> None:
    assert within(200.0, [30.0, 90.0]) == [30.0, 90.0]
    assert within(200.0, [0.0]) == [0.0]


def test_a_thread_that_slept_did_not_run_through() -> None:
    watch = Stopwatch()
    time.sleep(0.02)
    assert not watch.stop().ran_through
    assert watch.used_us < 20_000


def test_what_the_layers_explain_is_a_share_of_their_own_inferences() -> None:
    assert explained(194.0, 200.0) == {"layers_explain": "97.0% of the inferences that they were timed in"}


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_runtime_says_what_its_layers_explain(runtime: str) -> None:
    session = open_runtime(runtime).open(residual(), SessionSettings("fp32", 1, per_layer=True))
    session.bind([np.ones((1, 3, 12, 12), np.float32)])
    session.layer_times(20)
    share, _, of = session.report["layers_explain"].partition("% ")
    assert 0 < float(share) <= 110  # half a microsecond is added for each primitive: the clocks cut it off
    assert of == "of the inferences that they were timed in"
