from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.errors import TableError
from edgeprune.graph.trace import trace
from edgeprune.latency import waiting
from edgeprune.latency.network import NetworkRecord
from edgeprune.latency.profile import fill
from edgeprune.latency.rule import SURVEY
from edgeprune.latency.store import TableStore
from edgeprune.latency.trust import (
    CHECK_S,
    FACTOR_MAX,
    Trust,
    check_table,
    chosen_networks,
    compared,
    seconds_for,
    vetted,
)
from edgeprune.runtimes.base import SessionSettings
from edgeprune.targets.target import Fingerprint
from tests.simulated import SimulatedBench, Wide, measurement


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    model = Wide().eval()
    return Blueprint(model, trace(model, torch.zeros(1, 3, 8, 8)))


@pytest.fixture(scope="module")
def store(blueprint: Blueprint, tmp_path_factory: pytest.TempPathFactory) -> TableStore:
    made = TableStore(tmp_path_factory.mktemp("tables"))
    fill(blueprint, OpenVINO(), made)  # type: ignore[arg-type]
    return made


class OpenVINO(SimulatedBench):
    """Simulated, but for the names in its fingerprint."""

    def fingerprint(self) -> Fingerprint:
        return Fingerprint({**super().fingerprint(), "runtime": "openvino"})


@pytest.mark.parametrize(
    ("networks", "status", "sentence", "usable"),
    [
        ([(10.0, 10.3), (2.0, 1.98)], "matches", "matches (3.0 %)", True),
        ([(10.0, 14.0), (2.0, 2.8)], "slower", "this machine is 1.4x slower", True),
        ([(10.0, 8.0), (2.0, 1.6)], "faster", "this machine is 1.2x faster", True),  # 1 / 0.8 = 1.25, which reads 1.2
        ([(10.0, 21.0), (2.0, 4.2)], "slower", "this machine is 2.1x slower", False),
        # Their mean factor is sqrt(1.4 x 1) = 1.18, and 1.4 is 18 % off that.
        ([(10.0, 14.0), (2.0, 2.0)], "differs", "differs: its networks take 1x to 1.4x of their times in the", False),
    ],
)
def test_ratios_become_a_sentence(networks: Any, status: str, sentence: str, usable: bool) -> None:
    found = compared(networks)
    assert (found.status, found.usable) == (status, usable)
    assert found.sentence.startswith(sentence)


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=3), st.floats(0.2, 5))
def test_one_factor_for_all_is_never_a_difference(times: list[float], factor: float) -> None:
    found = compared([(time, time * factor) for time in times])
    assert found.factor == pytest.approx(factor)
    assert found.status != "differs"
    assert found.usable == (1 / FACTOR_MAX <= found.factor <= FACTOR_MAX)


def record(ms: float) -> NetworkRecord:
    return NetworkRecord("net", {}, ms, 0.0, (), 0.0)


@given(st.lists(st.floats(0.01, 900), min_size=1, max_size=20))
def test_it_takes_no_longer_than_it_may(times: list[float]) -> None:
    chosen = chosen_networks([record(ms) for ms in times])
    assert max(times) in [one.engine_ms for one in chosen]
    assert sum(seconds_for(one.engine_ms) for one in chosen) <= CHECK_S * 2 / 3


def test_the_ends_and_the_middle_are_timed() -> None:
    assert [one.engine_ms for one in chosen_networks([record(ms) for ms in (3, 9, 1, 5, 7)])] == [9, 1, 5]


def test_the_same_device_matches_and_the_table_is_left_alone(blueprint: Blueprint, store: TableStore) -> None:
    before = [path.read_bytes() for path in sorted(store.root.rglob("*.json*"))]
    found = check_table(blueprint, OpenVINO(), store)  # type: ignore[arg-type]
    assert (found.status, len(found.networks)) == ("matches", 3)
    assert found.factor == pytest.approx(1)
    assert [path.read_bytes() for path in sorted(store.root.rglob("*.json*"))] == before


def test_a_slower_device_is_told(blueprint: Blueprint, store: TableStore) -> None:
    found = check_table(blueprint, OpenVINO(slowdown=1.4), store)  # type: ignore[arg-type]
    assert found.sentence == "this machine is 1.4x slower"


def test_another_version_is_stale_and_never_used(blueprint: Blueprint, store: TableStore) -> None:
    bench = OpenVINO(version="2")
    found = check_table(blueprint, bench, store)  # type: ignore[arg-type]
    assert (found.status, found.sentence, found.usable) == ("stale", "stale: OpenVINO 1, now 2", False)
    with pytest.raises(TableError, match="can't be trusted: stale: OpenVINO 1, now 2") as caught:
        found.required(store, bench.fingerprint())
    assert caught.value.exit_code == 8


def test_another_precision_is_another_table_and_not_a_stale_one(blueprint: Blueprint, store: TableStore) -> None:
    found = check_table(blueprint, OpenVINO(SessionSettings("bf16")), store)  # type: ignore[arg-type]
    assert found.status == "missing"


def test_a_busy_device_cannot_tell(blueprint: Blueprint, store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.0)
    with pytest.raises(TableError, match="can't be checked: a test made it busy"):
        check_table(blueprint, OpenVINO(trusted=False), store)  # type: ignore[arg-type]


def test_networks_that_compare_otherwise_are_refused(
    blueprint: Blueprint, store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cost of its own for every inference: 30 us more are nothing to the largest network and all to the smallest."""
    monkeypatch.setattr("tests.simulated.FIXED_US", 35.0)
    bench = OpenVINO()
    with pytest.raises(TableError, match="differs: its networks take"):
        check_table(blueprint, bench, store).required(store, bench.fingerprint())  # type: ignore[arg-type]


def test_what_differs_twice_is_measured_again(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, bench = TableStore(tmp_path), OpenVINO()
    old = fill(blueprint, bench, store)  # type: ignore[arg-type]
    key = {"network": old.network, "budget_ms": 1.0}
    store.decide(bench.fingerprint(), key, {"plan": "by the old table"})
    monkeypatch.setattr("tests.simulated.FIXED_US", 35.0)
    assert vetted(blueprint, bench, store).status == "differs"  # type: ignore[arg-type]
    assert store.decision(bench.fingerprint(), key) is None
    new = fill(blueprint, bench, store)  # type: ignore[arg-type]
    assert len(new.records) == len(old.records)
    assert new.dense.engine_ms - old.dense.engine_ms == pytest.approx(0.030, rel=0.1)  # 35 us a run for the 5 before
    assert check_table(blueprint, bench, store).status == "matches"  # type: ignore[arg-type]


def test_a_table_that_was_measured_in_a_busy_hour_takes_shorter_times_over(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    store, bench = TableStore(tmp_path), OpenVINO(slowdown=1 / 1.6)
    old = fill(blueprint, OpenVINO(), store)  # type: ignore[arg-type]
    key = {"network": old.network, "budget_ms": 1.0}
    store.decide(bench.fingerprint(), key, {"plan": "by the old times"})
    assert vetted(blueprint, bench, store).sentence == "this machine is 1.6x faster"  # type: ignore[arg-type]
    assert store.decision(bench.fingerprint(), key) is None
    assert not any(one.settled for one in store.load(bench.fingerprint()).records), "a kill here must not lose that"
    new = fill(blueprint, bench, store)  # type: ignore[arg-type]
    for before, after in zip(old.records, new.records, strict=True):
        assert after.widths == before.widths
        assert (after.engine_ms, after.p90_ms) == pytest.approx((before.engine_ms / 1.6, before.p90_ms / 1.6))
        assert (after.samples, after.rounds) == (before.samples, before.rounds) == (1, 1)
        assert after.layers_us == pytest.approx(before.layers_us / 1.6, rel=1e-3)  # 1 ns a row
    assert check_table(blueprint, bench, store).status == "matches"  # type: ignore[arg-type]


def test_a_machine_more_than_twice_as_fast_measures_again(blueprint: Blueprint, tmp_path: Path) -> None:
    store, bench = TableStore(tmp_path), OpenVINO(slowdown=1 / 2.1)
    fill(blueprint, OpenVINO(), store)  # type: ignore[arg-type]
    assert vetted(blueprint, bench, store).sentence == "this machine is 2.1x faster"  # type: ignore[arg-type]
    assert not store.load(bench.fingerprint()).records


def test_a_check_that_was_disturbed_is_made_again(
    blueprint: Blueprint, store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([Trust("differs", "differs: ..."), Trust("matches", "matches (1 %)", 1.0)])
    monkeypatch.setattr("edgeprune.latency.trust.check_table", lambda *_: next(found))
    bench = OpenVINO()
    assert vetted(blueprint, bench, store).status == "matches"  # type: ignore[arg-type]
    assert store.load(bench.fingerprint()).records


def test_the_sentence_says_what_was_repeated_how_often() -> None:
    said = measurement(2.0).repetition(SURVEY)
    assert said.startswith("Median over the samples within 3% of the fastest")
    assert " 8 to 24 quiet rounds of 0.1 s" in said
    assert said.endswith("Here: 1 rounds, 100% of 1 samples undisturbed.")
