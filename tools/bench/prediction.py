"""Print how well latencies are predicted: random-width networks that no fit has seen, predicted and measured.

    python tools/bench/prediction.py torchvision:resnet18 torchvision:mobilenet_v2
    python tools/bench/prediction.py models.py:resnet56 --input 1x3x32x32 --target onnxruntime --threads 2

The table is filled as `edgeprune profile` fills it (`EDGEPRUNE_TABLES` names its folder). The networks that are
predicted have every group's width drawn evenly from all its widths, down to one channel; what was measured of them is
kept in `--out`, so that a killed run goes on and another way to predict can be tried on the same measurements.

    median, p95, worst  of |predicted / measured - 1|, over the networks
    band                share of the networks inside the band that the prediction gives
    attributed          sum of the layers' times over the whole engine's median, median and range over the networks
    inserted            share of the layers' times that belongs to no layer of the network, median
    fill                seconds for the table, where nothing of it was there
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from network_options import parser_of_many

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.artifacts.source import load_source
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency.bench import Bench, open_bench
from edgeprune.latency.network import NetworkRecord
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.profile import fill, record_of, reference_of, required, signature_of, time_networks
from edgeprune.latency.rule import LONG, SURVEY
from edgeprune.latency.store import TableStore
from edgeprune.latency.waiting import measured_when_quiet
from edgeprune.records import append_lines, read_lines

SEED = 2024


def main() -> None:
    """Measure and print one row a network."""
    parser = parser_of_many(__doc__, "runs/prediction")
    parser.add_argument("--plans", type=int, default=20)
    options = parser.parse_args()
    print(f"{options.target}, {options.threads} threads, {options.plans} networks each. {LONG.sentence()}")
    print("network                 median    p95  worst  band  attributed          inserted  fill")
    for name in options.models:
        print(_row(name, options), flush=True)


def _row(name: str, options: argparse.Namespace) -> str:
    source = load_source(name, input_shape=options.input)
    blueprint = Blueprint(source.model, trace(source.model, torch.zeros(source.input_shape)))
    with open_bench(options.target, threads=options.threads) as bench:
        store = TableStore()
        known = store.load(bench.fingerprint()).of(signature_of(blueprint))
        started = time.perf_counter()
        table = fill(blueprint, bench, store)
        fill_s = time.perf_counter() - started
        held_out = options.out / bench.fingerprint().digest / f"{table.network}.jsonl"
        measured = _measured(held_out, blueprint, table, bench, options.plans)
    errors = np.abs([table.predict(record.widths).ms / record.engine_ms - 1 for record, _ in measured])
    within = np.mean(errors <= table.error)
    shares = np.array([share for _, share in measured])
    inserted = np.median([record.inserted_us / (record.inserted_us + record.layers_us) for record, _ in measured])
    took = "" if known else f"{fill_s:.0f} s"
    return (
        f"{name.rpartition(':')[2]:22s} {np.median(errors):7.1%} {np.quantile(errors, 0.95):6.1%} {errors.max():6.1%} "
        f"{within:5.0%}  {np.median(shares):.3f} ({shares.min():.3f}-{shares.max():.3f}) {inserted:9.1%}  {took}"
    )


def _measured(
    path: Path, source: Blueprint, table: NetworkTable, bench: Bench, count: int
) -> list[tuple[NetworkRecord, float]]:
    """Return the records of random-width networks, and their layers' summed times over the engine's.

    Each network's layers are timed by themselves, the whole networks all side by side, as a table's are.
    """
    plans = [random_plan(source.graph, number) for number in range(count)]
    for plan in plans[len(list(read_lines(path))) :]:
        (times,) = time_networks(bench, {"network": source.at(plan)}, None, rule=SURVEY).values()
        record = record_of(times, plan, source.nodes, table.network)
        append_lines(path, [{"record": record.to_json(), "attributed": 1 / times.factor(times.engine.median_ms)}])
    lines = list(read_lines(path))[:count]
    together = path.with_suffix(".together.jsonl")
    if len(list(read_lines(together))) < count:
        models = {str(number): source.at(plan) for number, plan in enumerate(plans)}
        found = measured_when_quiet(bench, models, LONG, reference_of(table, source))
        append_lines(together, [{"number": number, "ms": one.median_ms} for number, one in required(found).items()])
    engines = {line["number"]: line["ms"] for line in read_lines(together)}
    records = [NetworkRecord.from_json(line["record"]) for line in lines]
    return [
        (record.scaled(engines[str(number)] / record.engine_ms), line["attributed"])
        for number, (record, line) in enumerate(zip(records, lines, strict=True))
    ]


def random_plan(graph: ChannelGraph, number: int) -> WidthPlan:
    """Return the numbered plan: every group's width drawn evenly from those that it may have, from one channel on."""
    random = np.random.default_rng([SEED, number])
    widths = {group.name: int(random.choice(group.possible[group.possible > 0])) for group in graph.cuttable}
    return WidthPlan.from_scores(graph, {}, widths)


if __name__ == "__main__":
    main()
