"""The page as a browser shows it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, MISSING, screenshot, visit

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MEASURED = """<script>addEventListener("load", () => {
  const figures = [...document.querySelectorAll("figure svg")];
  const smallest = figures.map(one => Math.min(...[...one.querySelectorAll("text")].map(text =>
    parseFloat(getComputedStyle(text).fontSize) * one.getBoundingClientRect().width / one.viewBox.baseVal.width)));
  parent.postMessage(JSON.stringify({
    window: innerWidth, page: document.documentElement.scrollWidth, pixels: smallest}), "*");
});</script>"""
# In a frame, since a window of Chromium's is never narrower than 500 pixels.
FRAME = """<body><iframe style="border: 0; width: WIDTHpx; height: 900px" src="measured.html"></iframe>
<script>onmessage = event => { document.body.textContent = event.data };</script></body>"""


def test_the_page_loads_without_a_word_and_without_a_request(bundle: Path, tmp_path: Path) -> None:
    seen = visit(bundle / "report.html", tmp_path)
    assert seen.console == ()
    assert seen.requested == ()
    assert seen.dom.count("<svg") == seen.dom.count("<figure") == 4


def test_what_a_page_must_not_do_would_be_seen(bundle: Path, tmp_path: Path) -> None:
    text = (bundle / "report.html").read_text()
    barred = tmp_path / "barred.html"
    barred.write_text(text.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'))
    seen = visit(barred, tmp_path)
    assert any("Content Security Policy" in line for line in seen.console)
    assert seen.requested == (), "the page's own policy keeps it from asking"
    open_page = tmp_path / "open.html"
    open_page.write_text('<img src="http://127.0.0.1:9/x.png">')
    assert "http://127.0.0.1:9/x.png" in visit(open_page, tmp_path).requested


@pytest.mark.parametrize("width", [380, 1400])
def test_nothing_is_cut_off_and_all_can_be_read(bundle: Path, tmp_path: Path, width: int) -> None:
    text = (bundle / "report.html").read_text()
    assert POLICY in text
    (tmp_path / "measured.html").write_text(text.replace(POLICY, "").replace("</head>", f"{MEASURED}</head>"))
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    dom = visit(tmp_path / "frame.html", tmp_path).dom
    found = json.loads(dom[dom.index("{", dom.index("<body")) : dom.rindex("}") + 1])
    assert found["page"] <= found["window"] == width
    assert len(found["pixels"]) == 4
    assert min(found["pixels"]) >= 8


@pytest.mark.parametrize("width", [380, 1400])
def test_pictures_of_the_page(bundle: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    screenshot(bundle / "report.html", picture, width, 2000, tmp_path)
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (width, 2000)
    assert len(content) > 50_000, "an empty page is smaller"
