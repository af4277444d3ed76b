"""What every runtime must do. A test file a runtime subclasses `RuntimeContract` and names it."""

from __future__ import annotations

import time
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgeprune.errors import InputError
from edgeprune.latency.quantized import quantized
from edgeprune.runtimes.base import Session, SessionSettings
from edgeprune.runtimes.onnxgraph import read_nodes
from edgeprune.runtimes.registry import find_record, open_runtime
from edgeprune.targets.clocks import allowed_cores
from tests.onnx_models import Builder, residual, scale_and_shift


class RuntimeContract:
    name: str
    convolution: str  # what the runtime calls a convolution in its layer times

    def open(self, model: bytes, **settings: object) -> Session:
        return open_runtime(self.name).open(model, SessionSettings(**settings))

    def test_agrees_with_its_record(self) -> None:
        record, runtime = find_record(self.name), open_runtime(self.name)
        assert runtime.name == record.name == self.name
        assert runtime.version() == metadata.version(self.name)

    def test_says_what_was_compiled(self) -> None:
        session = self.open(residual())
        assert session.properties["precision"] == "fp32"
        assert session.properties["threads"] == "1"
        assert session.properties["streams"] == "1"
        assert all(isinstance(value, str) for value in session.properties.values())
        assert session.inputs == {"input": (1, 3, 12, 12)}
        assert session.input_types == {"input": "float32"}
        assert session.outputs == ["fc"]

    def test_outputs_are_those_of_the_reference(self) -> None:
        model = residual()
        array = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
        expected = ReferenceEvaluator(onnx.load_from_string(model)).run(None, {"input": array})[0]
        np.testing.assert_allclose(self.open(model).run([array])[0], expected, rtol=1e-4, atol=1e-5)

    def test_several_inputs_and_outputs_keep_their_order(self) -> None:
        session = self.open(scale_and_shift())
        left, right = np.float32([[1, 2]]), np.float32([[10, 20]])
        assert list(session.inputs) == ["left", "right"]
        assert session.outputs == ["double", "sum"]
        double, total = session.run([left, right])
        assert double.tolist() == [[2, 4]]
        assert total.tolist() == [[11, 22]]

    def test_outputs_are_copies(self) -> None:
        session = self.open(scale_and_shift())
        right = np.float32([[10, 20]])
        first = session.run([np.float32([[1, 2]]), right])
        session.run([np.float32([[5, 5]]), right])
        assert first[0].tolist() == [[2, 4]]

    def test_inputs_may_be_of_another_type_or_order(self) -> None:
        array = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
        session = self.open(residual())
        turned = np.asfortranarray(array.astype(np.float64))
        np.testing.assert_array_equal(session.run([turned])[0], session.run([array])[0])

    def test_every_node_is_timed_once(self) -> None:
        model = residual()
        session = self.open(model, per_layer=True)
        session.bind([np.ones((1, 3, 12, 12), np.float32)])
        rows = session.layer_times(20)
        timed = [node for row in rows for node in row.nodes]
        assert sorted(timed) == sorted(node.name for node in read_nodes(model))
        assert all(row.us >= 0 for row in rows)
        of = {node: row for row in rows for node in row.nodes}
        assert of["layer1.0.conv1"].nodes == ("layer1.0.conv1", "layer1.0.relu")
        assert of["layer1.0.conv2"].nodes == ("layer1.0.conv2", "layer1.0.add", "layer1.0.relu_1")
        assert of["layer1.0.conv1"].kind == self.convolution
        assert of["layer1.0.conv1"].us > 0

    def test_layer_times_follow_the_work(self) -> None:
        """The 3x3 convolution from 64 to 64 channels does 27 times the multiplications of the 1x1 one to 21."""
        build = Builder(input=[1, 64, 28, 28])
        build.op("Relu", "relu", build.conv("large", "input", 64, 64, 3))
        build.conv("small", "relu", 64, 21, 1)
        session = self.open(build.model(small=[1, 21, 28, 28]), per_layer=True)
        session.bind([np.ones((1, 64, 28, 28), np.float32)])
        us = {node: row.us for row in session.layer_times(30) for node in row.nodes}
        assert us["large"] > 3 * us["small"]

    def test_layer_times_need_their_clocks(self) -> None:
        session = self.open(residual())
        session.bind([np.ones((1, 3, 12, 12), np.float32)])
        with pytest.raises(InputError, match="per-layer"):
            session.layer_times(5)

    def test_several_threads(self) -> None:
        """They leave the cores alone between inferences: where networks take turns, the next one needs them."""
        threads = min(2, len(allowed_cores()))
        session = self.open(residual(channels=32, size=96), threads=threads)
        assert session.properties["threads"] == str(threads)
        session.run([np.zeros((1, 3, 96, 96), np.float32)])
        time.sleep(0.005)
        used, since = time.process_time(), time.perf_counter()
        time.sleep(0.03)
        assert time.process_time() - used < 0.5 * (time.perf_counter() - since)

    def test_refuses_a_precision_that_it_does_not_have(self) -> None:
        with pytest.raises(InputError, match="int3") as caught:
            self.open(residual(), precision="int3")
        assert caught.value.remedy

    def test_refuses_what_is_no_model(self) -> None:
        with pytest.raises(InputError):
            self.open(b"no model")

    def test_refuses_a_shape_that_is_not_fixed(self) -> None:
        model = onnx.load_from_string(residual())
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        with pytest.raises(InputError, match="no fixed shape"):
            self.open(model.SerializeToString())

    def test_saves_its_engine(self, tmp_path: Path) -> None:
        folder = tmp_path / "engine"
        written = open_runtime(self.name).save_engine(residual(), folder, SessionSettings())
        assert sorted(written) == sorted(folder.iterdir())
        assert {path.suffix for path in written} == set(find_record(self.name).suffixes)
        assert all(path.stat().st_size for path in written)

    def test_closes_twice(self) -> None:
        session = self.open(residual())
        session.close()
        session.close()


class QuantizedContract(RuntimeContract):
    """What a runtime with a quantizer must do as well."""

    def test_int8_is_in_the_model_and_read_back(self) -> None:
        """The images are those that the scales came from, so the difference is rounding: below 5 % on 8 bits."""
        images = np.random.default_rng(1).standard_normal((8, 3, 12, 12)).astype(np.float32)
        model = quantized(residual(), find_record(self.name).quantizer, images, reduced=True)
        session = self.open(model, precision="int8", per_layer=True)
        assert session.properties["precision"] == "int8"
        found = np.concatenate([session.run([image[None]])[0] for image in images])
        exact = self.open(residual())
        expected = np.concatenate([exact.run([image[None]])[0] for image in images])
        assert 0 < np.abs(found - expected).max() / np.abs(expected).max() < 0.05
        timed = {node: row for row in session.layer_times(20) for node in row.nodes}
        weighted = ("stem.conv", "layer1.0.conv1", "layer1.0.conv2", "depthwise", "fc")
        assert len({id(timed[node]) for node in weighted}) == len(weighted), "each has a row of its own"

    def test_a_float_model_is_not_int8_and_an_int8_one_not_float(self) -> None:
        with pytest.raises(InputError, match="not int8"):
            self.open(residual(), precision="int8")
        with pytest.raises(InputError, match="not fp32"):
            self.open(quantized(residual(), find_record(self.name).quantizer), precision="fp32")
