"""A template's process that was started before anybody has asked for a template.

An agent that was started early (`orch.agent.forerunner`) has nothing to do until it gets its orders, and its first
leader mostly wants a template in the environment that the agent was started in. The process imports what any template
needs, and then waits for the first message. It bears no agent's mark yet: an agent that begins ends what does.
"""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from orch.agent import packets
from orch.agent.tags import NAME, placeholder
from orch.agent.templates import ONE_THREAD, spawn


class Ahead(NamedTuple):
    """The process, our end of its socket, and where it was started."""

    pid: int
    end: socket.socket
    environment: dict[str, str]
    cwd: str

    def fits(self, environment: dict[str, str], cwd: str) -> bool:
        """Is it what a template in this environment and directory would be? The mark does not count."""
        return cwd == self.cwd and {**environment, NAME: ""} == {**self.environment, NAME: ""}


def start_ahead(cwd: str) -> Ahead:
    """Start one in this process's own environment. Raises `OSError`."""
    environment = {**dict.fromkeys(ONE_THREAD, "1"), **os.environ, NAME: placeholder("")}
    ours, theirs = packets.pair()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        ours.settimeout(0)
        os.set_inheritable(theirs.fileno(), True)  # noqa: FBT003 - a fixed signature
        return Ahead(spawn(theirs.fileno(), environment, cwd, (null, null)), ours, environment, cwd)
    except BaseException:  # nobody else will close it, whatever went wrong
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(null)
