from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from edgeprune.report import figures
from edgeprune.report.front import front, on_front

LAYERS = [
    {"layer": "stem", "of": 16, "width": 12, "locked": False},
    {"layer": "a.very.long.name.of.a.module.conv", "of": 2048, "width": 1673, "locked": False},
    {"layer": "fc", "of": 10, "width": 10, "locked": True},
]
ROWS = [
    {"layer": source, "op": "Conv", "dense_us": 9.0, "predicted_us": 5.0, "measured_us": 4.0, "source": source}
    for source in figures.HATCHES
]
NETWORKS = [
    {"predicted_ms": 3.0, "measured_ms": 3.4, "chosen": False},
    {"predicted_ms": 2.8, "measured_ms": 2.9, "chosen": True},
]
CURVES = [{"layer": "stem", "widths": [1, 8, 9, 16], "us": [1.0, 1.0, 2.0, 2.0], "timed": [8], "width": 8, "of": 16}]
HISTOGRAM = {"edges": [0.0, 0.25, 0.5, 0.75, 1.0], "kept": [0, 0, 1, 4], "removed": [6, 1, 1, 0]}
POINTS = [
    {"letter": "A", "ms": 1.0, "accuracy": 0.9, "dense": False},
    {"letter": "A dense", "ms": 2.0, "accuracy": 0.95, "dense": True},
]
DRAWN = {
    "network": lambda: figures.network(LAYERS),
    "latency": lambda: figures.latency(ROWS),
    "rounds": lambda: figures.rounds(NETWORKS, 3.0),
    "staircases": lambda: figures.staircases(CURVES),
    "trained": lambda: figures.trained(HISTOGRAM),
    "front": lambda: front(POINTS),
}


def words(svg: str) -> set[str]:
    return {text.text or "" for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_drawn_in_the_page_s_colours_and_the_same_again(name: str) -> None:
    svg = DRAWN[name]()
    assert svg == DRAWN[name]()
    ElementTree.fromstring(svg)
    assert 'role="img"' in svg
    assert set(re.findall(r"var\((--[a-z]+)\)", svg)) >= {"--ink", "--measured"}
    assert not re.findall(r"#(?!000000)[0-9a-f]{6}\b", svg), "a colour that dark screens would not change"
    assert all(one.startswith(f"{name}-") for one in re.findall(r'\bid="([^"]+)"', svg))


def test_the_network_says_its_widths() -> None:
    assert words(DRAWN["network"]()) >= {"12 of 16", "1673 of 2048", "10", "stem", "…name.of.a.module.conv"}


def test_a_layer_that_is_gone_is_an_outline_and_a_much_narrower_one_can_be_seen() -> None:
    assert "length: square root of the channels" in words(DRAWN["network"]())
    even = [
        {"layer": "a", "of": 8, "width": 0, "locked": False},
        {"layer": "b", "of": 64, "width": 64, "locked": False},
    ]
    svg = figures.network(even)
    assert "length: square root of the channels" not in words(svg)
    assert words(svg) >= {"0 of 8", "64"}
    filled = [one for one in re.findall(r'style="([^"]*)"', svg) if "fill: var(--measured)" in one]
    assert len(filled) == 2, "one bar and its mark in the legend"


def test_many_small_layers_are_one_row() -> None:
    small = [dict(ROWS[0], layer=f"relu{at}", dense_us=0.01, predicted_us=0.02, measured_us=None) for at in range(6)]
    rest = {"layer": "rest", "op": None, "dense_us": None, "predicted_us": 1.0, "measured_us": 1.0, "source": None}
    said = words(figures.latency([*ROWS, *small, rest]))
    assert said >= {"measured", "interpolated", "assumed", "6 others", "no layer"}
    assert not {one for one in said if one.startswith("relu")}
    assert "relu0" in words(figures.latency([*ROWS, *small[:5], rest]))


def test_every_source_has_a_hatch_of_its_own() -> None:
    svg = DRAWN["latency"]()
    patterns = re.findall(r"<pattern.*?</pattern>", svg, flags=re.DOTALL)
    assert len({re.sub(r'id="[^"]*"', "", one) for one in patterns}) == len(figures.HATCHES) == 3
    assert words(svg) >= {"measured in the engine", "predicted, interpolated", "predicted, assumed", "dense"}


def test_what_training_gave_says_how_much_stays() -> None:
    assert words(DRAWN["trained"]()) >= {"kept (5)", "removed (8)", "importance that training gave"}


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 0.9), (2, 0.95), (3, 0.93)], [(1, 0.9), (2, 0.95)]),
        ([(1, 0.9), (1, 0.8), (2, 0.9)], [(1, 0.9)]),
        ([], []),
    ],
)
def test_the_front_is_what_no_other_beats(points: list[tuple[float, float]], expected: list[Any]) -> None:
    found = on_front([{"ms": ms, "accuracy": accuracy} for ms, accuracy in points])
    assert [(one["ms"], one["accuracy"]) for one in found] == expected
