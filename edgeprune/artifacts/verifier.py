"""The files by which a bundle checks itself where it lies: a script, and the modules that it runs, in one archive."""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import MissingError
from edgeprune.records import write_bytes
from edgeprune.targets.packing import packed_agent

SCRIPT, MODULES = "verify.py", "verify.zip"

_TEXT = f'''#!/usr/bin/env python3
"""Check this bundle on the machine that it lies on: python3 {SCRIPT}

Needs Python 3.8 or later, numpy and the runtime that manifest.json names; nothing has to be installed for it. Builds
the engine here where the runtime wants that, compares its outputs with those that PyTorch left in samples.npz, measures
its latency, prints what came of it, and writes verdict.json for: edgeprune verify BUNDLE --import verdict.json
"""

import sys
from pathlib import Path


def stop(what):
    print("error: " + what, file=sys.stderr)
    sys.exit({MissingError.exit_code})


if sys.version_info < (3, 8):
    stop("this is Python " + sys.version.split()[0] + "; start it with Python 3.8 or later")
try:
    import numpy
except ImportError as error:
    reason = " ".join(str(error).split())
    stop("numpy can't be imported: " + reason + "; " + sys.executable + " -m pip install numpy")
FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER / "{MODULES}"))

from edgeprune.verification.onboard import main

if __name__ == "__main__":
    sys.exit(main(FOLDER, sys.argv[1:]))
'''


def write_verifier(folder: Path) -> None:
    """Write both files into a bundle."""
    write_bytes(folder / SCRIPT, _TEXT.encode())
    write_bytes(folder / MODULES, packed_agent())
