from __future__ import annotations

import os
from collections.abc import Iterator

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
