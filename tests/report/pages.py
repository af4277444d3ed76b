"""A page as a program reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Number:
    """One number of the page: its place in the bundle, its exact value, how it is written, what is to be read."""

    place: str
    value: str
    form: str
    kind: str
    bundle: str
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Numbers, figures, links and words of a page."""

    text: str
    numbers: list[Number] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    _named: list[tuple[str, str]] = field(default_factory=list)
    _bundle: str = ""
    _within: Number | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        self._bundle = found.get("data-bundle", "" if tag in ("td", "tr") else self._bundle)
        if "id" in found and tag in ("div", "pre", "table"):
            self._named.append((tag, found["id"]))
        if tag == "data":
            self._within = Number(
                found["data-from"], found["value"], found["data-form"], found.get("class", ""), self._bundle
            )

    def handle_endtag(self, tag: str) -> None:
        if tag == "data" and self._within is not None:
            self.numbers.append(self._within)
            self._within = None
        if self._named and self._named[-1][0] == tag:
            self._named.pop()

    def handle_data(self, data: str) -> None:
        if self._within is not None:
            self._within.text += data
        for _, name in self._named:
            self.words[name] = self.words.get(name, "") + data

    def said(self, name: str) -> str:
        """Return the words of an element by its id, on one line."""
        return " ".join(self.words[name].split())

    def figures(self) -> set[str]:
        """Return the ids of the figures."""
        return {found["id"] for tag, found in self.tags if tag == "figure"}
