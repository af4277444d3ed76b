from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback import Loopback, Wire


@pytest.fixture(scope="session")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A device behind ssh, which `ssh` in PATH finds; started for the first test that wants it."""
    device = Loopback(tmp_path_factory.mktemp("loopback"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(device.bin), os.environ["PATH"]]))
        yield device
    device.stop()


@pytest.fixture
def wire(loopback: Loopback) -> Iterator[Wire]:
    """A wire to that device, which can be cut."""
    with loopback.wired() as laid:
        yield laid


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, its weights, and bundles of it at 60 % and 40 %, from a device that is a formula."""
    folder = tmp_path_factory.mktemp("made")
    import torch  # only for those that ask for it: most tests need none of this

    from edgeprune import pipeline
    from edgeprune.job import Job
    from edgeprune.units import parse_latency
    from tests.simulated import Wide
    from tests.test_pipeline import simulate

    (folder / "network.py").write_text("from tests.simulated import Wide\n\n\ndef wide():\n    return Wide()\n")
    torch.manual_seed(0)
    torch.save(Wide().state_dict(), folder / "weights.pt")
    with pytest.MonkeyPatch.context() as patch:
        simulate(patch, folder / "tables")
        patch.chdir(folder)
        for share in ("60%", "40%"):
            pipeline.export(
                Job(
                    model="network.py:wide",
                    weights=Path("weights.pt"),
                    target="openvino",
                    input_shape=(1, 3, 16, 16),
                    lock=("fc",),
                    latency=parse_latency(share),
                    out=folder / share.removesuffix("%"),
                )
            )
    return folder


@pytest.fixture(scope="session")
def bundle(made: Path) -> Path:
    """The bundle at 60 %."""
    return made / "60"
