from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.trace import trace
from edgeprune.latency.network import NetworkRecord
from edgeprune.latency.predict import NetworkTable
from edgeprune.latency.sampling import DENSE, FAMILIAR, FREE_NETWORKS, TOTAL_NETWORKS, lacking_numbers, numbered_plan
from edgeprune.latency.table import LatencyTable
from edgeprune.targets.target import Fingerprint
from tests.simulated import Wide

NOTHING = NetworkTable(LatencyTable(Fingerprint({})), "network", {})


@pytest.fixture(scope="module")
def graph() -> ChannelGraph:
    return trace(Wide().eval(), torch.zeros(1, 3, 8, 8))


def test_the_first_network_is_the_dense_one(graph: ChannelGraph) -> None:
    assert numbered_plan(DENSE, graph, NOTHING, 0).widths == {group.name: group.channels for group in graph}


@pytest.mark.parametrize("seed", range(5))
def test_the_free_networks_go_over_all_widths_of_every_group_in_equal_parts(graph: ChannelGraph, seed: int) -> None:
    plans = [numbered_plan(number, graph, NOTHING, seed).widths for number in range(1, FREE_NETWORKS + 1)]
    for group in graph.cuttable:
        # The widths 1 .. n in seven parts: a width w lies in the part (w - 1) * 7 / n, cut to a whole number. A part's
        # end is no whole width, so that of two neighbours one part may hold a width of the next; and an odd multiple of
        # four lies up to four channels away from the width that it stands for.
        parts = sorted((widths[group.name] - 1) * FREE_NETWORKS / group.channels for widths in plans)
        off = 4 * FREE_NETWORKS / group.channels
        for part, place in enumerate(parts):
            assert part - FREE_NETWORKS / group.channels - off < place < part + 1 + off


@pytest.mark.parametrize("seed", range(5))
def test_some_free_networks_have_odd_multiples_of_four(graph: ChannelGraph, seed: int) -> None:
    # Two of seven, but that of a width under four is left as it is: one network at least, of 24 channels or more.
    plans = [numbered_plan(number, graph, NOTHING, seed).widths for number in range(1, FREE_NETWORKS + 1)]
    for group in graph.cuttable:
        assert group.channels >= 16
        assert sum(widths[group.name] % 8 == 4 for widths in plans) >= 1


def test_a_wider_network_has_wider_groups_by_and_large(graph: ChannelGraph) -> None:
    for seed in range(5):
        narrow, wide = (sum(numbered_plan(at, graph, NOTHING, seed).widths.values()) for at in (1, FREE_NETWORKS))
        assert narrow < wide


def test_a_number_is_always_the_same_plan_and_a_seed_gives_others(graph: ChannelGraph) -> None:
    assert numbered_plan(3, graph, NOTHING, 0) == numbered_plan(3, graph, NOTHING, 0)
    assert numbered_plan(3, graph, NOTHING, 0) != numbered_plan(3, graph, NOTHING, 1)


def test_what_allow_inexact_frees_is_measured_too() -> None:
    """A table that was filled without it varies none of the channels that a norm spans."""
    spanned = Normed().eval()
    images = torch.zeros(1, 3, 8, 8)
    exact, free = trace(spanned, images), trace(spanned, images, allow_inexact=True)
    assert {group.name for group in free.cuttable} - {group.name for group in exact.cuttable} == {"stem"}
    numbers = range(FREE_NETWORKS + 1)
    filled = [numbered_plan(number, exact, NOTHING, 0).widths for number in numbers]
    table = known_by(filled)
    assert lacking_numbers(numbers, exact, table, 0) == []
    assert len(lacking_numbers(numbers, free, table, 0)) == FREE_NETWORKS
    varied = known_by([*filled, *(numbered_plan(number, free, NOTHING, 0).widths for number in numbers)])
    assert lacking_numbers(numbers, free, varied, 0) == []


class Normed(nn.Module):
    """Conv 3 -> 8 whose channels a LayerNorm spans, conv 8 -> 6, conv 6 -> 2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.norm = nn.LayerNorm(8)
        self.wide = nn.Conv2d(8, 6, 1)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.last(self.wide(x).relu())


def known_by(networks: Sequence[Mapping[str, int]]) -> NetworkTable:
    """Return a table of networks that each took a millisecond, and no layers."""
    records = tuple(NetworkRecord("network", dict(widths), 1.0, 0.0, (), 0.0) for widths in networks)
    return NetworkTable(LatencyTable(Fingerprint({}), records), "network", {})


def test_a_familiar_network_has_some_of_either_kind() -> None:
    free = [number for number in FAMILIAR if DENSE < number <= FREE_NETWORKS]
    assert len(free) == len(FAMILIAR) - 1 - len(free) == 3
    assert max(FAMILIAR) < TOTAL_NETWORKS
