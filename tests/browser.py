"""Headless Chromium: what it shows of a page, what it says of it, and what it asks the network for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "there is no Chromium here; python3 tools/check.py installs Debian's, or: apt-get install chromium"

_QUIET = (
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
)


@dataclass(frozen=True)
class Visit:
    """What came of opening a page.

    Attributes:
        console: lines that the page's console got.
        requested: addresses that the page's requests went to, itself left out.
        dom: the document after loading.
    """

    console: tuple[str, ...]
    requested: tuple[str, ...]
    dom: str


def visit(page: Path, scratch: Path) -> Visit:
    """Open a page from the disk."""
    log = scratch / "net.json"
    done = _run(scratch, "--dump-dom", f"--log-net-log={log}", page.as_uri())
    console = re.findall(r"CONSOLE[:(].*", done.stderr)
    return Visit(tuple(console), tuple(_requested(log)), done.stdout)


def screenshot(page: Path, picture: Path, width: int, height: int, scratch: Path) -> None:
    """Write a PNG of a page as it is shown in a window of `width` by `height` pixels."""
    _run(scratch, f"--window-size={width},{height}", f"--screenshot={picture}", page.as_uri())


def _run(scratch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox does not start for root
    command = [CHROMIUM, *_QUIET, *root, f"--user-data-dir={scratch / 'profile'}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def _requested(log: Path) -> list[str]:
    """Return the addresses in a log of Chromium's network stack that a page's own requests went to."""
    text = log.read_text().strip()
    # A browser that ends before its log does leaves it without its end.
    content, _ = json.JSONDecoder().raw_decode(text if text.endswith("}") else text.rstrip(",") + "]}")
    found = []
    for event in content["events"]:
        asked = event.get("params", {})
        # What the browser asks for by itself (updates, its settings) is marked so.
        if "url" in asked and "initiator" in asked and asked["initiator"] != "not an origin":
            found.append(asked["url"])
    return found
