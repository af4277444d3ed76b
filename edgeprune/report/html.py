"""The page about a bundle, and the one about several: a single file that loads nothing and runs nothing.

The templates write every number as `<data>` with the exact value and the place in the bundle that it was read from, so
that the page can be compared with the files.
"""

from __future__ import annotations

import shlex
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.report import figures
from edgeprune.report.facts import Facts, place, read_facts
from edgeprune.report.front import front, on_front
from edgeprune.report.outcome import ACCURACIES, meaning_of
from edgeprune.request import can_be_repeated, command_of
from edgeprune.units import format_bytes, format_count, format_ms, format_percent, format_seconds

if TYPE_CHECKING:
    from jinja2 import Environment

FORMS: Mapping[str, Callable[[Any], str]] = {
    "ms": format_ms,
    "us": lambda us: format_ms(us / 1000),
    "percent": format_percent,
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "whole": str,
    "factor": lambda value: f"{value:.3g}",
    "tiny": lambda value: f"{value:.1e}",
}
"""How numbers are written: name of a form -> function."""


def page(bundle: Path) -> str:
    """Return the page about a bundle as HTML.

    Raises:
        InputError: not a bundle, or a file of it is missing or was changed since.
    """
    facts = read_facts(bundle)
    result, evidence = facts.result, facts.evidence
    latency = result["latency_ms"]
    networks = evidence.get("networks")
    template = _environment().get_template("report.html.j2")
    return template.render(
        facts=facts,
        place=place,
        accuracies=ACCURACIES,
        means=meaning_of(result),
        command=shlex.join(command_of(facts.manifest)) if can_be_repeated(facts.manifest) else None,
        network_figure=figures.network(evidence["layers"]) if evidence.get("layers") else None,
        latency_figure=figures.latency(facts.layers),
        rounds_figure=figures.rounds(networks, latency["budget"]) if networks else None,
        trained_figure=figures.trained(evidence["trained"]) if evidence.get("trained") else None,
        staircases_figure=figures.staircases(evidence["staircases"]) if evidence.get("staircases") else None,
    )


def comparison(bundles: Sequence[Path]) -> str:
    """Return the page that shows several bundles side by side, each under a letter of its own.

    Raises:
        InputError: one is not a bundle, or a file of it is missing or was changed since.
    """
    compared = dict(zip(string.ascii_uppercase, map(read_facts, bundles), strict=False))
    points = [*_points(compared, dense=False), *_points(compared, dense=True)]
    template = _environment().get_template("comparison.html.j2")
    return template.render(
        compared=compared,
        place=place,
        accuracies=ACCURACIES,
        settings=_settings(compared),
        fingerprint=dict.fromkeys(name for facts in compared.values() for name in facts.result["fingerprint"]),
        best=[one["letter"] for one in on_front(points) if not one["dense"]],
        front_figure=front(points) if points else None,
    )


def _points(compared: Mapping[str, Facts], *, dense: bool) -> list[dict[str, Any]]:
    """Return a point for each bundle, or for each dense network, whose accuracy and latency were both measured."""
    letters: dict[tuple[float, float], list[str]] = {}
    for letter, facts in compared.items():
        latency, accuracy = facts.result["latency_ms"], facts.result["accuracy"]
        ms = latency["dense"] if dense else latency["measured"]
        share = accuracy["dense"] if dense else accuracy["engine"]
        if ms is not None and share is not None and (dense or facts.result["status"] != "unverified"):
            letters.setdefault((ms, share), []).append(letter)
    return [
        {"letter": ", ".join(found) + " dense" * dense, "ms": ms, "accuracy": share, "dense": dense}
        for (ms, share), found in letters.items()
    ]


def _settings(compared: Mapping[str, Facts]) -> list[str]:
    """Return the settings in which the bundles differ."""
    jobs = [facts.manifest["job"] for facts in compared.values()]
    names = dict.fromkeys(name for job in jobs for name in job)
    return [name for name in names if any(job.get(name) != jobs[0].get(name) for job in jobs)]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("edgeprune.report"),
        autoescape=select_autoescape(["html.j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["write"] = lambda form, value: FORMS[form](value)
    return environment
