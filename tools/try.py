"""Set up what is missing, then do the main job on the built-in demo: `python3 tools/try.py [EXPORT OPTIONS]`.

The bundle lands in runs/demo. Options are passed on to `edgeprune export` and win over those below.
"""

from __future__ import annotations

import sys

from bootstrap import call, ready

EXPORT = ("export", "demo", "--target", "openvino", "--latency", "60%", "--out", "runs/demo")

if __name__ == "__main__":
    given = sys.argv[1:]
    elsewhere = any(one == "--out" or one.startswith("--out=") for one in given)
    replacing = [] if elsewhere or "--resume" in given else ["--force"]
    sys.exit(call(ready("demo"), "-m", "edgeprune", *EXPORT, *replacing, *given))
