from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import InputError
from edgeprune.units import (
    LatencyBudget,
    ceil_ms,
    format_bytes,
    format_count,
    format_ms,
    format_percent,
    format_seconds,
    parse_bytes,
    parse_floats,
    parse_latencies,
    parse_latency,
    parse_shape,
)


@pytest.mark.parametrize(
    ("text", "ms"), [("10ms", 10), ("800us", 0.8), ("800 µs", 0.8), ("0.01s", 10), (" .5ms ", 0.5), ("1e1ms", 10)]
)
def test_latency_in_milliseconds(text: str, ms: float) -> None:
    assert parse_latency(text) == LatencyBudget(ms=pytest.approx(ms))


def test_latency_as_a_share_of_the_dense_network() -> None:
    budget = parse_latency("60%")
    assert budget.of(dense_ms=20) == 12
    assert parse_latency("5ms").of(dense_ms=20) == 5


@pytest.mark.parametrize("text", ["", "ms", "ten", "-3ms", "3 min", "10ms,8ms", "nanms", "0ms", "0%", "1e999ms"])
def test_no_latency(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_latency(text)
    assert repr(text) in caught.value.message
    assert caught.value.remedy


def test_a_unit_is_required_and_the_likely_one_suggested() -> None:
    with pytest.raises(InputError) as caught:
        parse_latency("10")
    assert caught.value.remedy == "did you mean 10ms?"


def test_ladder() -> None:
    assert parse_latencies("10ms, 60%") == [LatencyBudget(ms=10), LatencyBudget(fraction=0.6)]


@given(
    st.one_of(st.builds(LatencyBudget, ms=st.floats(1e-3, 1e6)), st.builds(LatencyBudget, fraction=st.floats(0.01, 2)))
)
def test_a_budget_reads_back_as_written(budget: LatencyBudget) -> None:
    again = parse_latency(str(budget))
    assert again.of(1.0) == pytest.approx(budget.of(1.0), rel=1e-11)
    assert (again.ms is None) == (budget.ms is None)


def test_sizes() -> None:
    assert parse_bytes("25MB") == 25_000_000
    assert parse_bytes("512 KiB") == 512 * 1024
    for text in ("25", "MB", "1e999MB", "3 parsecs", "10ib"):
        with pytest.raises(InputError):
            parse_bytes(text)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=5))
def test_a_shape_reads_back_as_written(shape: list[int]) -> None:
    assert parse_shape("x".join(map(str, shape))) == tuple(shape)


@pytest.mark.parametrize("text", ["", "x", "1x", "0x3", "1x-3", "1,3", "1x3.5", "²x3"])
def test_no_shape(text: str) -> None:
    with pytest.raises(InputError):
        parse_shape(text)


def test_floats() -> None:
    assert parse_floats(".485,.5, 1") == (0.485, 0.5, 1.0)
    with pytest.raises(InputError):
        parse_floats("1;2")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0.0423, "42.3 us"),
        (12.34, "12.3 ms"),
        (0.09999, "0.1 ms"),
        (999.7, "1000 ms"),
        (1234.4, "1234 ms"),
        (0, "0 us"),
    ],
)
def test_milliseconds_as_text(ms: float, text: str) -> None:
    assert format_ms(ms) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(41_300_000, "41.3 M"), (999_999, "1 M"), (999, "999"), (1_234, "1.23 k"), (2.5e12, "2.5 T"), (0, "0")],
)
def test_counts_as_text(count: float, text: str) -> None:
    assert format_count(count) == text


def test_other_numbers_as_text() -> None:
    assert format_bytes(25_400_000) == "25.4 MB"
    assert format_bytes(12) == "12 B"
    assert format_percent(0.9264) == "92.6 %"
    assert [format_seconds(value) for value in (4.25, 42, 185, 3720)] == ["4.2 s", "42 s", "3 min 05 s", "1 h 02 min"]


@given(st.floats(1e-3, 1e5))
def test_a_latency_to_type_is_never_less(ms: float) -> None:
    typed = parse_latency(ceil_ms(ms)).ms
    assert typed is not None
    assert ms * (1 - 1e-9) <= typed <= ms * 1.0101
