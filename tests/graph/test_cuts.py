from __future__ import annotations

import json

import numpy as np

from edgeprune.graph.cuts import Cuts


def test_two_cuts_one_after_the_other_are_one() -> None:
    first = Cuts({"a": {0: np.array([1, 3, 5, 7])}, "b": {1: np.array([0, 2])}}, {"m.width": 4, "m.heads": 2})
    other = Cuts({"a": {0: np.array([0, 2]), 1: np.array([4])}, "c": {0: np.array([1])}}, {"m.width": 2})
    found = first.then(other)
    # Of 1, 3, 5, 7 the second cut keeps the first and the third.
    assert found.tensors["a"][0].tolist() == [1, 5]
    assert found.tensors["a"][1].tolist() == [4]
    assert found.tensors["b"][1].tolist() == [0, 2]
    assert found.tensors["c"][0].tolist() == [1]
    assert found.attributes == {"m.width": 2, "m.heads": 2}
    assert first.tensors["a"][0].tolist() == [1, 3, 5, 7]


def test_cuts_survive_json() -> None:
    cuts = Cuts({"a.weight": {0: np.array([1, 3]), 1: np.array([0])}}, {"m.splits[1]": 3})
    again = Cuts.from_json(json.loads(json.dumps(cuts.to_json())))
    assert again.to_json() == cuts.to_json()
    assert again.tensors["a.weight"][0].tolist() == [1, 3]
