"""Groups of tiny networks, written by hand: name -> channels, and the entries a channel has in each dimension."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.errors import InputError
from edgeprune.graph.trace import trace
from tests import nets

PIXELS = torch.randn(1, 3, 4, 4)


def described(model: nn.Module, inputs: object = PIXELS, **options: object) -> dict[str, tuple[int, dict[str, int]]]:
    """Return group -> (channels, "tensor/dim" -> entries a channel), BatchNorm statistics and biases left out."""
    graph = trace(model, inputs, **options)
    return {
        group.name: (
            group.channels,
            {
                f"{slot.tensor}/{slot.dim}": slot.index.shape[1]
                for slot in group.slots
                if slot.tensor.endswith("weight")
            },
        )
        for group in graph
    }


def test_residual_stream_is_one_group_and_each_inner_width_another():
    assert described(nets.Residual()) == {
        "stem.0": (
            8,
            {
                "stem.0.weight/0": 1,
                "stem.1.weight/0": 1,
                "one.0.weight/1": 1,
                "one.3.weight/0": 1,
                "one.4.weight/0": 1,
                "two.0.weight/1": 1,
                "two.3.weight/0": 1,
                "two.4.weight/0": 1,
                "fc.weight/1": 1,
            },
        ),
        "one.0": (4, {"one.0.weight/0": 1, "one.1.weight/0": 1, "one.3.weight/1": 1}),
        "two.0": (4, {"two.0.weight/0": 1, "two.1.weight/0": 1, "two.3.weight/1": 1}),
    }


def test_kinds_and_statistics_of_a_residual_network():
    graph = trace(nets.Residual(), PIXELS)
    assert [group.kind for group in graph] == ["stream", "inner", "inner"]
    assert {slot.tensor for slot in graph.groups["one.0"].slots} == {
        "one.0.weight",
        "one.1.weight",
        "one.1.bias",
        "one.1.running_mean",
        "one.1.running_var",
        "one.3.weight",
    }
    assert graph.foldable == (
        ("stem.0", "stem.1"),
        ("one.0", "one.1"),
        ("one.3", "one.4"),
        ("two.0", "two.1"),
        ("two.3", "two.4"),
    )


def test_depthwise_channels_are_those_of_the_expansion():
    assert described(nets.Depthwise()) == {
        "expand": (6, {"expand.weight/0": 1, "depthwise.weight/0": 1, "project.weight/1": 1})
    }


def test_whole_convolution_groups_are_channels():
    # 4 groups: 2 of the 8 inputs and 3 of the 12 outputs each.
    assert described(nets.Grouped()) == {"first": (4, {"first.weight/0": 2, "grouped.weight/0": 3, "last.weight/1": 3})}


def test_concatenated_branches_are_groups_of_their_own():
    graph = trace(nets.Concat(), PIXELS)
    assert {group.name: group.channels for group in graph} == {"left": 4, "right": 6}
    left = next(slot for slot in graph.groups["left"].slots if slot.tensor == "last.weight")
    right = next(slot for slot in graph.groups["right"].slots if slot.tensor == "last.weight")
    assert left.index.ravel().tolist() == [0, 1, 2, 3]
    assert right.index.ravel().tolist() == [7, 8, 9, 10, 11, 12]
    assert graph.axis("last.weight", 1).fixed == 3
    assert graph.axis("last.weight", 1).parts == {"left": 1, "right": 1}
    assert graph.axis("last.weight", 1).width({"left": 2, "right": 5}) == 10


def test_flattened_positions_belong_to_their_channel():
    graph = trace(nets.Flatten(), PIXELS)
    assert {group.name: group.channels for group in graph} == {"conv": 4, "hidden": 6}
    (columns,) = [slot for slot in graph.groups["conv"].slots if slot.tensor == "hidden.weight"]
    assert columns.index.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert graph.foldable == (("hidden", "norm"),)


def test_squeeze_excitation_gates_the_same_channels():
    assert described(nets.SqueezeExcite()) == {
        "conv": (8, {"conv.weight/0": 1, "reduce.weight/1": 1, "widen.weight/0": 1, "last.weight/1": 1}),
        "reduce": (2, {"reduce.weight/0": 1, "widen.weight/1": 1}),
    }


def test_padded_shortcut_frees_the_channels_between_the_zeros():
    graph = trace(nets.PaddedShortcut(), PIXELS)
    assert {group.name: group.channels for group in graph} == {"stem": 4}
    (rows,) = [s for s in graph.groups["stem"].slots if (s.tensor, s.dim) == ("branch.weight", 0)]
    assert rows.index.ravel().tolist() == [2, 3, 4, 5]
    assert ("zeros padded in code", 4) in [(one.reason, one.channels) for one in graph.locked]


def test_a_module_used_twice_ties_its_input_to_its_output():
    graph = trace(nets.Shared(), PIXELS)
    (group,) = graph
    assert group.channels == 6
    assert graph.aliases == {"other_head.weight"}
    assert {("head.weight", 1), ("other_head.weight", 1)} <= {(slot.tensor, slot.dim) for slot in group.slots}
    assert {("twice.weight", 0), ("twice.weight", 1)} <= {(slot.tensor, slot.dim) for slot in group.slots}


def test_halves_of_a_chunk_lose_equally_many():
    graph = trace(nets.Chunked(), PIXELS)
    stem, branch = graph.groups["stem"], graph.groups["branch"]
    assert (stem.channels, stem.parts) == (8, 2)
    assert (branch.channels, branch.parts) == (4, 1)
    slots = {slot.tensor: slot for slot in stem.slots}
    assert slots["branch.weight"].first == 4
    assert slots["branch.weight"].index.ravel().tolist() == [0, 1, 2, 3]
    assert slots["last.weight"].first == 0
    assert slots["last.weight"].index.ravel().tolist() == [0, 1, 2, 3]
    assert graph.axis("branch.weight", 1).width({"stem": 6}) == 3
    assert graph.axis("last.weight", 1).width({"stem": 6, "branch": 1}) == 4


def test_shuffled_channels_go_in_pairs():
    (group,) = trace(nets.Shuffle(), PIXELS)
    slots = {slot.tensor: slot.index.tolist() for slot in group.slots}
    assert slots["stem.weight"] == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert slots["last.weight"] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_whole_heads_and_hidden_widths_of_attention():
    graph = trace(nets.Attention(), torch.randn(1, 7, 6))
    assert {group.name: group.channels for group in graph} == {"qkv": 4, "wide": 10}
    assert {f"{slot.tensor}/{slot.dim}": slot.index.shape for slot in graph.groups["qkv"].slots} == {
        "qkv.weight/0": (4, 9),
        "qkv.bias/0": (4, 9),
        "project.weight/1": (4, 3),
    }
    (rows,) = [slot for slot in graph.groups["qkv"].slots if slot.tensor == "qkv.weight"]
    assert rows.index[1].tolist() == [3, 4, 5, 15, 16, 17, 27, 28, 29]


def test_a_network_without_channels():
    graph = trace(nets.OnlyClassifier(), torch.randn(1, 3, 4, 4))
    assert graph.groups == {}
    assert [(one.modules, one.channels, one.reason) for one in graph.locked] == [(("fc",), 5, "output of the network")]
    assert graph.macs() == 48 * 5
    assert graph.params() == 48 * 5 + 5


def test_macs_and_parameters_by_hand():
    graph = trace(nets.Residual(), PIXELS)
    inner = 2 * (9 * 8 * 4 + 9 * 4 * 8) * 16
    assert graph.macs() == 9 * 3 * 8 * 16 + inner + 8 * 5
    assert graph.macs({"one.0": 1, "two.0": 1}) == 9 * 3 * 8 * 16 + inner // 4 + 8 * 5
    assert graph.params() == sum(tensor.numel() for tensor in nets.Residual().parameters())
    norms = 8 + 4 + 8 + 4 + 8
    assert graph.params() == 9 * 3 * 8 + 2 * (9 * 8 * 4 + 9 * 4 * 8) + 2 * norms + 8 * 5 + 5


def test_macs_of_transposed_and_grouped_convolutions_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1, groups=1),
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
        nn.Conv2d(6, 6, 3, groups=3),
    )
    # 4 x 4 pixels; then each of 4 x 4 inputs meets 2 x 2 kernels and 3 outputs of its group; then 6 x 6 outputs.
    assert trace(model, PIXELS).macs() == 3 * 4 * 16 + 4 * 3 * 4 * 16 + 6 * 2 * 9 * 36


def test_named_inputs_and_a_dict_of_outputs():
    inputs = {"image": torch.randn(1, 3, 4, 4), "depth": torch.randn(1, 1, 4, 4)}
    assert described(nets.Named(), inputs) == {
        "image": (6, {"image.weight/0": 1, "depth.weight/0": 1, "last.weight/1": 1})
    }


def test_lock_patterns():
    assert list(described(nets.Residual(), lock=("one",))) == ["two.0"]  # one.3 makes the stream too
    assert list(described(nets.Residual(), lock=("*.0",))) == []
    assert list(described(nets.Residual(), lock=("two.3",))) == ["one.0", "two.0"]
    assert list(described(nets.Residual(), lock="one")) == ["two.0"]
    graph = trace(nets.Residual(), PIXELS, lock=("one.0",))
    assert ("locked by 'one.0'", 4) in [(one.reason, one.channels) for one in graph.locked]
    assert graph.axis("one.3.weight", 1).parts == {}
    assert graph.axis("one.3.weight", 1).fixed == 4
    assert graph.macs() == trace(nets.Residual(), PIXELS).macs()


def test_a_lock_that_matches_nothing_is_refused():
    with pytest.raises(InputError, match="no module matches lock pattern 'blocks'"):
        trace(nets.Residual(), PIXELS, lock=("blocks",))


def test_a_submodule_keeps_its_outputs():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nets.Residual())
    graph = trace(model, PIXELS, submodule="1.one")
    assert list(graph.groups) == ["1.one.0"]
    assert graph.shapes["1.one.0.weight"] == (4, 8, 3, 3)
    assert graph.submodule == "1.one"


def test_an_unknown_submodule_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'stem'"):
        trace(nets.Residual(), PIXELS, submodule="stemm")


def test_what_cannot_be_traced_is_refused_with_the_reason():
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match=r"traced: test_trace\.py:\d+, `return x if x\.sum\(\) > 0 .*asks what is in"):
        trace(Branching(), PIXELS)
    with pytest.raises(InputError, match="Sequential can't be traced: Invalid channel dimensions"):
        trace(nn.Sequential(nn.Conv2d(5, 3, 1)), PIXELS)


def test_training_mode_is_left_as_it_was():
    model = nets.Residual()
    model.one.eval()
    before = [module.training for module in model.modules()]
    trace(model, PIXELS)
    assert [module.training for module in model.modules()] == before
    assert True in before
    assert False in before


def test_an_operator_without_a_rule_locks_what_flows_in():
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.fft.rfft2(self.conv(x)).real)

    graph = trace(Unknown(), PIXELS)
    assert graph.groups == {}
    assert "no channel rule for fft_rfft2" in {one.reason for one in graph.locked}
