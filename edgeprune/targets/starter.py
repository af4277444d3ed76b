"""What the shell on a device is asked to run, `python3 -c`: take the agent from stdin, keep it, become it.

Arguments: the size of the agent in bytes, its SHA-256, and what the agent itself is told. It must parse on any
Python 3, to say that one is too old, and hold no single quote and no exclamation mark, which shells take for theirs.
"""

import sys

# Nothing is imported from the folder that it happens to start in.
sys.path[:] = [entry for entry in sys.path if entry]

import hashlib  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402


def main(size: str, digest: str, *told: str) -> None:
    if sys.version_info < (3, 8):
        sys.exit("edgeprune: Python 3.8 or newer is needed, {} is {}".format(sys.executable, sys.version.split()[0]))
    content = b""
    while len(content) < int(size):
        block = os.read(0, int(size) - len(content))
        if not block:
            sys.exit("edgeprune: the agent did not come through")
        content += block
    intact = hashlib.sha256(content).hexdigest() == digest
    if not intact:
        sys.exit("edgeprune: the agent arrived damaged")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(cache, "edgeprune")
    path = os.path.join(folder, "agent-" + digest[:16] + ".pyz")
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        try:
            write(path, content)
        except OSError:  # a full disk: what can be sent again goes first
            shutil.rmtree(os.path.join(folder, "files"), ignore_errors=True)
            write(path, content)
    except OSError as error:
        sys.exit("edgeprune: the cache folder {} cannot be written to: {}".format(folder, error.strerror))
    os.execv(sys.executable, [sys.executable, path, folder, *told])


def write(path: str, content: bytes) -> None:
    # Written beside and moved: another host may be starting the same one.
    beside = path + str(os.getpid())
    try:
        with open(beside, "wb") as target:
            target.write(content)
        os.replace(beside, path)
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


main(*sys.argv[1:])
