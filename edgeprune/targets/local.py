"""This machine as a device: the agent as a child process, so that what it runs cannot harm the program itself."""

from __future__ import annotations

from edgeprune.targets.agent import own_command
from edgeprune.targets.host import AgentDevice
from edgeprune.targets.peer import Peer


class LocalDevice(AgentDevice):
    """This machine; see `device.Device`. It keeps no file that a call came with."""

    def __init__(self) -> None:
        super().__init__("local")

    def _start(self) -> Peer:
        return Peer(own_command("serve"))
