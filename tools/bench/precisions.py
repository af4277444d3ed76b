"""Print what an engine's precision costs and gains: latency and accuracy of the uncut network in each.

    python tools/bench/precisions.py net.py:make --weights w.pth --data images.npz --input 1x3x32x32

The precisions are those of the target that this processor has. They take turns, a session each; int8 is quantized on
images of the training set, as `edgeprune export` does it.

    latency   median over the sessions, in ms
    speed-up  of the first precision's latency over it: median over the turns, and their range
    top-1     of the engine, over the validation set
    numerics  largest difference to the first precision's outputs on validation images, over their largest
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack

import numpy as np
from network_options import network_of, parser_of, target_name

from edgeprune.artifacts.onnx import export_onnx
from edgeprune.artifacts.samples import val_arrays
from edgeprune.artifacts.subject import load_subject
from edgeprune.errors import InputError, MissingError
from edgeprune.graph.trace import trace
from edgeprune.latency.bench import Bench, open_bench
from edgeprune.latency.profile import required
from edgeprune.latency.rule import LONG
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.pruning.fuse import fuse
from edgeprune.shipping import QUANTIZATION_IMAGES
from edgeprune.targets.target import find_target
from edgeprune.verification.accuracy import engine_accuracy
from edgeprune.verification.numerics import largest_difference


def main() -> None:
    """Measure in turns, then print a row a precision."""
    parser = parser_of(__doc__)
    parser.add_argument("--target", type=target_name, default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=5)
    options = parser.parse_args()
    subject = load_subject(**network_of(options))
    data = subject.data
    assert data is not None, "the parser has a default"
    graph = trace(subject.model, subject.example_inputs)
    dense = export_onnx(fuse(subject.model, graph.foldable), graph.example_inputs).SerializeToString()
    calibration = np.concatenate([x.numpy() for x, _ in data.calibration(QUANTIZATION_IMAGES, seed=0)])
    seen = next(iter(val_arrays(data)))[0]
    print(f"{options.target}, {options.threads} threads, {options.sessions} sessions. {LONG.sentence()}")
    with ExitStack() as stack:
        benches = {}
        for precision in find_target(options.target).precisions:
            try:
                bench = stack.enter_context(open_bench(options.target, precision=precision, threads=options.threads))
                bench.fingerprint()
            except (InputError, MissingError) as error:
                print(f"{precision}: {error.message}")
            else:
                benches[precision] = bench
        if not benches:
            parser.error(f"{options.target} can't be used here")
        models = {name: bench.typed(dense, calibration) for name, bench in benches.items()}
        turns = [{name: _ms(bench, models[name]) for name, bench in benches.items()} for _ in range(options.sessions)]
        first, *_ = benches
        exact = benches[first].outputs(models[first], [seen])
        print("precision   latency  speed-up           top-1  numerics")
        for name, bench in benches.items():
            ratios = sorted(turn[first] / turn[name] for turn in turns)
            right = engine_accuracy(bench, models[name], val_arrays(data), images=data.val_size)
            off = largest_difference(bench.outputs(models[name], [seen]), exact)
            print(
                f"{name:9} {statistics.median(turn[name] for turn in turns):7.3f} ms  {statistics.median(ratios):5.2f}"
                f" ({ratios[0]:.2f}-{ratios[-1]:.2f})  {right:6.1%}  {off:8.1e}",
                flush=True,
            )


def _ms(bench: Bench, model: bytes) -> float:
    return required(measured_when_quiet(bench, {"network": model}, LONG))["network"].median_ms


if __name__ == "__main__":
    main()
