"""Progress that shows nothing and keeps what is said."""

from __future__ import annotations

from edgeprune.progress import Silent


class Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)
