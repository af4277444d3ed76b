from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import InputError
from edgeprune.runtimes.base import SessionSettings
from edgeprune.runtimes.registry import open_runtime
from edgeprune.targets.clocks import allowed_cores, keep_affinity, pin
from tests.contracts.runtime_contract import QuantizedContract
from tests.onnx_models import residual


class TestOpenVINO(QuantizedContract):
    name = "openvino"
    convolution = "Convolution"

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_a_precision_is_given_or_refused_never_replaced(self, precision: str) -> None:
        """Which of the two it is depends on the processor."""
        import openvino

        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision.upper() in capabilities:
            assert self.open(residual(), precision=precision).properties["precision"] == precision
        else:
            with pytest.raises(InputError, match=f"not {precision}"):
                self.open(residual(), precision=precision)

    def test_refuses_more_threads_than_there_are(self) -> None:
        with pytest.raises(InputError, match="threads"):
            self.open(residual(), threads=10_000)

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
    def test_one_thread_stays_on_the_core_that_it_was_put_on(self) -> None:
        session = self.open(residual())
        session.bind([np.ones((1, 3, 12, 12), np.float32)])
        assert session.properties["pinning"] == "False"
        with keep_affinity():
            for core in allowed_cores():
                pin([core])
                session.infer()
                assert allowed_cores() == [core]

    def test_computes_where_onednn_is_asked_to_talk(self, tmp_path: Path) -> None:
        """OpenVINO by itself computes nothing then: what it returns is what lay in memory."""
        (tmp_path / "model.onnx").write_bytes(residual())
        run = (
            "import sys, numpy as np\n"
            "from pathlib import Path\n"
            "from edgeprune.runtimes.base import SessionSettings\n"
            "from edgeprune.runtimes.registry import open_runtime\n"
            "session = open_runtime('openvino').open(Path(sys.argv[1]).read_bytes(), SessionSettings())\n"
            "print(session.run([np.ones((1, 3, 12, 12), np.float32)])[0].ravel().tolist())\n"
        )
        command = [sys.executable, "-c", run, str(tmp_path / "model.onnx")]
        quiet, talking = (
            subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=True).stdout
            for more in ({}, {"ONEDNN_VERBOSE": "profile_exec"})
        )
        assert talking.splitlines() == quiet.splitlines()

    def test_the_saved_engine_computes_the_same(self, tmp_path: Path) -> None:
        import openvino

        array = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
        xml, weights = open_runtime(self.name).save_engine(residual(), tmp_path, SessionSettings())
        assert weights.suffix == ".bin"
        compiled = openvino.Core().compile_model(str(xml), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        np.testing.assert_allclose(compiled([array])[0], self.open(residual()).run([array])[0], rtol=1e-5, atol=1e-6)


def test_telemetry_is_off() -> None:
    code = (
        "import sys\n"
        "from edgeprune.runtimes.registry import open_runtime\n"
        "open_runtime('openvino').version()\n"
        "sys.exit(any(name.startswith('openvino_telemetry.') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
