"""Devices that share the filling of a table; what becomes of it over ssh is in tests/test_over_ssh.py."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgeprune.artifacts.blueprint import Blueprint
from edgeprune.errors import DeviceError, TableError
from edgeprune.graph.plan import WidthPlan
from edgeprune.graph.trace import trace
from edgeprune.latency.bench import LayerTimes
from edgeprune.latency.group import BenchGroup
from edgeprune.latency.profile import fill
from edgeprune.latency.sampling import TOTAL_NETWORKS
from edgeprune.latency.store import TableStore
from edgeprune.targets.target import Fingerprint
from tests.listening import Listening
from tests.simulated import SimulatedBench, Wide


@dataclass
class Board(SimulatedBench):
    """One of several; it is lost when it is given its network number `lost_at`."""

    name: str = "board"
    lost_at: int | None = None
    together: threading.Barrier | None = None
    dense: bytes = b""
    kind: str = "formula"
    device: Any = field(init=False)

    def __post_init__(self) -> None:
        self.device = SimpleNamespace(name=self.name)

    def fingerprint(self) -> Fingerprint:
        return Fingerprint({**super().fingerprint(), "device": self.kind})

    def layers(self, models: Any, *rest: Any, **options: Any) -> dict[str, LayerTimes]:
        if self.built == self.lost_at:
            raise DeviceError(f"the agent on {self.name} went away")
        if self.together and models["network"] != self.dense:  # which goes first, alone
            self.together.wait(timeout=60)
        return super().layers(models, *rest, **options)

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    model = Wide().eval()
    return Blueprint(model, trace(model, torch.zeros(1, 3, 8, 8)))


def plans(folder: Path, bench: SimulatedBench) -> list[tuple[tuple[str, int], ...]]:
    """Return the widths of the networks on disk as they were timed one by one, before they were side by side."""
    records = TableStore(folder).load(bench.fingerprint()).records
    return [tuple(record.widths.items()) for record in records if not record.settled]


def test_two_devices_measure_at_the_same_time(blueprint: Blueprint, tmp_path: Path) -> None:
    both = threading.Barrier(2)
    dense = blueprint.at(WidthPlan.dense(blueprint.graph))
    boards = [Board(name=name, together=both, dense=dense) for name in ("a", "b")]
    fill(blueprint, BenchGroup(boards), TableStore(tmp_path))
    # Every network but the dense one waited for another on the other device.
    assert sorted(board.built for board in boards) == [(TOTAL_NETWORKS - 1) // 2, (TOTAL_NETWORKS - 1) // 2 + 1]
    assert len(plans(tmp_path, boards[0])) == TOTAL_NETWORKS


@pytest.mark.parametrize("lost", [0, 1])
def test_the_loss_of_one_loses_nothing(blueprint: Blueprint, tmp_path: Path, lost: int) -> None:
    boards = [Board(name="a"), Board(name="b")]
    boards[lost].lost_at = 3
    group, progress = BenchGroup(boards), Listening()
    fill(blueprint, group, TableStore(tmp_path), progress=progress)
    found = plans(tmp_path, boards[0])
    assert len(found) == TOTAL_NETWORKS
    assert boards[lost].built == 3
    assert group.first is boards[1 - lost]
    assert progress.said == [f"going on without {boards[lost].name}: the agent on {boards[lost].name} went away"]


def test_the_loss_of_all_keeps_what_there_is_and_the_next_run_does_the_rest(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    boards = [Board(name="a", lost_at=3), Board(name="b", lost_at=4)]
    with pytest.raises(DeviceError, match="went away"):
        fill(blueprint, BenchGroup(boards), TableStore(tmp_path))
    first = plans(tmp_path, boards[0])
    assert len(first) == 3 + 4
    fresh = Board()
    fill(blueprint, fresh, TableStore(tmp_path))
    assert fresh.built == TOTAL_NETWORKS - 7
    assert plans(tmp_path, fresh)[:7] == first


def test_a_run_that_ended_out_of_order_does_what_is_missing(blueprint: Blueprint, tmp_path: Path) -> None:
    whole, parts = Board(), Board()
    fill(blueprint, whole, TableStore(tmp_path / "whole"))
    table = TableStore(tmp_path / "whole").load(whole.fingerprint())
    store = TableStore(tmp_path / "parts")
    empty = store.load(parts.fingerprint())
    for number in (0, 1, 2, 4, 5, 6):  # the fourth was under way on another device
        store.add(empty, table.records[number])
    fill(blueprint, parts, store)
    assert plans(tmp_path / "whole", whole)[3] in plans(tmp_path / "parts", parts)
    assert parts.built == TOTAL_NETWORKS - 6


def test_devices_that_differ_share_nothing() -> None:
    with pytest.raises(TableError, match="a and b can't share a table: device is 'formula' on the one and 'other'"):
        BenchGroup([Board(name="a"), Board(name="b", kind="other")]).check()
