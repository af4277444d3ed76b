from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune.verification.numerics import INCOMPARABLE, largest_difference
from edgeprune.verification.verdict import judge

FINE: dict[str, Any] = {
    "budget_ms": 10.0,
    "measured_ms": 9.5,
    "trusted": True,
    "numerics": {"slim_vs_masked": 1e-7, "onnx_vs_torch": 1e-6, "engine_vs_torch": 1e-6},
    "precision": "fp32",
    "dense_accuracy": 0.93,
    "engine_accuracy": 0.92,
    "max_drop": None,
}


@pytest.mark.parametrize(
    ("change", "status", "code", "said"),
    [
        ({}, "met", 0, ""),
        ({"measured_ms": 10.0}, "met", 0, ""),
        ({"measured_ms": 10.01}, "missed", 5, "over the budget of 10 ms"),
        (
            {"trusted": False, "distrust": "a neighbour"},
            "unverified",
            8,
            "9.5 ms was measured and is not to be trusted",
        ),
        ({"trusted": False, "allow_unverified": True}, "unverified", 0, "not to be trusted: the device was busy"),
        (
            {"elsewhere": "cpu: A -> B"},
            "unverified",
            8,
            "is not that of the export: cpu: A -> B; only that one verifies",
        ),
        ({"elsewhere": "cpu: A -> B", "allow_unverified": True}, "unverified", 0, "cpu: A -> B"),
        ({"elsewhere": "cpu: A -> B", "measured_ms": 11.0}, "missed", 5, "over the budget of 10 ms; allow more time"),
        ({"measured_ms": None}, "unverified", 3, "PREDICTED, NOT VERIFIED"),
        ({"measured_ms": None, "allow_unverified": True}, "unverified", 0, "PREDICTED, NOT VERIFIED"),
        ({"engine_accuracy": 0.90}, "met", 0, "fell by 3.0 points"),
        ({"engine_accuracy": 0.90, "max_drop": 0.02}, "met", 6, "3.0 points, 2 were allowed"),
        ({"engine_accuracy": 0.90, "max_drop": 0.04}, "met", 0, "fell by 3.0 points"),
        (
            {"dense_accuracy": None, "engine_accuracy": None, "max_drop": 0.01},
            "met",
            3,
            "there are no data to measure it",
        ),
        ({"engine_accuracy": None, "unjudged": "x.npz is gone"}, "met", 0, "accuracy is not checked: x.npz is gone"),
        (
            {"engine_accuracy": None, "unjudged": "x.npz is gone", "max_drop": 0.015},
            "met",
            3,
            "accuracy is not verified, and may fall by 1.5 points at most: x.npz is gone",
        ),
        ({"engine_accuracy": None, "unjudged": "gone", "max_drop": 0.01, "allow_unverified": True}, "met", 0, "gone"),
        ({"engine_accuracy": None, "unjudged": "gone", "max_drop": 0.01, "measured_ms": 11}, "missed", 5, "gone"),
        ({"numerics": {"onnx_vs_torch": 2e-4}}, "met", 7, "onnx_vs_torch differ by 0.0002"),
        ({"numerics": {"onnx_vs_torch": float("nan")}}, "met", 7, "onnx_vs_torch differ by nan"),
        ({"numerics": {"engine_vs_torch": 0.05}, "precision": "bf16"}, "met", 0, ""),
        ({"numerics": {"engine_vs_torch": 0.3}, "precision": "int8"}, "met", 0, ""),
        (
            {"numerics": {"engine_vs_torch": 0.7}, "precision": "int8"},
            "met",
            6,
            "quantization is broken: outputs differ",
        ),
        ({"numerics": {"engine_vs_torch": INCOMPARABLE}, "precision": "int8"}, "met", 7, "no numbers"),
        ({"precision": "int8", "float_accuracy": 0.96}, "met", 0, ""),
        ({"precision": "int8", "float_accuracy": 0.98}, "met", 6, "loses 6.0 points to its own float network"),
        ({"precision": "bf16", "float_accuracy": 0.98}, "met", 0, ""),
        ({"measured_ms": 11.0, "engine_accuracy": 0.5, "max_drop": 0.01}, "missed", 5, "over the budget"),
        ({"untrained": True}, "met", 0, "never trained: the latency is true"),
        ({"measured_ms": None, "device": "ssh://me@a"}, "unverified", 3, "edgeprune verify BUNDLE --device ssh://me@a"),
        ({"trusted": False, "device": "ssh://a"}, "unverified", 8, "again with: edgeprune verify BUNDLE --device ssh"),
    ],
)
def test_numbers_become_a_verdict(change: dict[str, Any], status: str, code: int, said: str) -> None:
    verdict = judge(**{**FINE, **change})
    assert (verdict.status, verdict.exit_code) == (status, code)
    assert said in " ".join(verdict.reasons)
    assert bool(verdict.reasons) == bool(said)


def test_the_difference_is_relative_to_the_largest_output() -> None:
    expected = [np.array([1.0, -4.0]), np.array([[2.0]])]
    assert largest_difference([np.array([1.0, -4.0]), np.array([[2.0]])], expected) == 0
    assert largest_difference([np.array([1.2, -4.0]), np.array([[2.0]])], expected) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "found", [[np.array([1.0])], [np.array([1.0, np.nan])], [np.zeros((2, 1))], [np.zeros(2), np.zeros(2)]]
)
def test_another_shape_or_no_number_can_t_be_compared(found: list[np.ndarray]) -> None:
    assert largest_difference(found, [np.array([1.0, 2.0])]) == INCOMPARABLE
