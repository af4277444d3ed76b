"""Draw a bundle's report as a picture: `python tools/report_picture.py BUNDLE PICTURE.png [WIDTH [HEIGHT]]`.

The page is opened in headless Chromium, in a window of WIDTH pixels (1400 by default, 380 for a telephone's).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgeprune.report.facts import PAGE
from tests.browser import CHROMIUM, MISSING, screenshot

if __name__ == "__main__":
    if len(sys.argv) not in (3, 4, 5):
        sys.exit(__doc__)
    if CHROMIUM is None:
        sys.exit(f"error: {MISSING}")
    bundle, picture = map(Path, sys.argv[1:3])
    width, height = (*map(int, sys.argv[3:]), *(1400, 1500)[len(sys.argv) - 3 :])
    if not (bundle / PAGE).is_file():
        sys.exit(f"error: {bundle / PAGE} does not exist; run: edgeprune report {bundle}")
    with tempfile.TemporaryDirectory() as scratch:
        screenshot((bundle / PAGE).resolve(), picture.resolve(), width, height, Path(scratch))
    print(f"{picture}: {picture.stat().st_size} bytes")
