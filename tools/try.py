"""Set up what is missing, then do the main job on the built-in demo: `python3 tools/try.py [EXPORT OPTIONS]`.

The bundle lands in runs/demo. Options are passed on to `edgeprune export` and win over those below.
"""

from __future__ import annotations

import sys

from bootstrap import call, ready

EXPORT = ("export", "demo", "--target", "openvino", "--latency", "60%", "--out", "runs/demo")

if __name__ == "__main__":
    replacing = [] if "--resume" in sys.argv else ["--force"]
    sys.exit(call(ready("demo"), "-m", "edgeprune", *EXPORT, *replacing, *sys.argv[1:]))
