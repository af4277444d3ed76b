from __future__ import annotations

import pytest

from edgeprune.runtimes import tensorrt_plans
from edgeprune.runtimes.tensorrt_build import Built
from edgeprune.runtimes.tensorrt_plans import Kept, PlanCache


def test_what_was_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_plans, "_KEPT_BYTES", 8)
    plans, dense = PlanCache(), Kept(Built(b"1234"), {})
    plans.keep(b"dense", "fp16", dense)
    for model in (b"a", b"b", b"c"):
        plans.keep(model, "fp16", Kept(Built(b"5678"), {}))
        assert plans.get(b"dense", "fp16") is dense
    assert plans.get(b"b", "fp16") is None
    assert plans.get(b"dense", "fp32") is None


def test_what_is_shipped_stays_until_another_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_plans, "_KEPT_BYTES", 8)
    plans, large = PlanCache(), Kept(Built(b"123456"), {})
    for shipped, other in ((b"one", b"a"), (b"two", b"b")):
        plans.keep(shipped, "fp16", large)
        plans.ship(shipped, "fp16")
        for model in (other, b"reference"):
            plans.keep(model, "fp16", large)
        assert plans.get(shipped, "fp16") is large
        assert plans.get(other, "fp16") is None
    assert plans.get(b"one", "fp16") is None
