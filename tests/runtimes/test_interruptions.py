from __future__ import annotations

import time

import numpy as np
import pytest

from edgeprune.runtimes.base import SessionSettings
from edgeprune.runtimes.interruptions import Stopwatch, explained, least_disturbed, within
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


def watched(wall_us: float, ran_through: bool = True) -> Stopwatch:
    watch = Stopwatch()
    watch.wall_us, watch.ran_through = wall_us, ran_through
    return watch


def test_the_quicker_half_of_what_ran_through_is_believed() -> None:
    # The last is the quickest, but was interrupted; of the other five the quicker three are believed.
    walls = [watched(9.0), watched(1.0), watched(4.0), watched(2.0), watched(3.0), watched(0.5, False)]
    assert least_disturbed(walls) == [1, 3, 4]


def test_where_nearly_all_were_interrupted_all_count() -> None:
    assert least_disturbed([watched(9.0, False), watched(1.0), watched(4.0, False)]) == [0, 1, 2]


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
