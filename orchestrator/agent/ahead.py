"""A template's process that was started before anybody has asked for a template.

An agent that was started early (`orch.agent.forerunner`) has nothing to do until it gets its orders, and its first
leader mostly wants a template in the environment that the agent was started in. The process imports what any template
needs, and then waits for the first message. It bears no agent's mark yet: an agent that begins ends what does.

Light to import, for it comes first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import NamedTuple

from orch.agent import packets
from orch.agent.tags import NAME, placeholder

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


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


def spawn(descriptor: int, environment: dict[str, str], cwd: str, output: tuple[int, int]) -> int:
    """Start a template in `cwd`, or in "/" where that is not there."""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        if cwd:
            os.chdir(cwd)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "orch.work.template", str(descriptor), str(os.getpid())],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, output[0], 1),
                (os.POSIX_SPAWN_DUP2, output[1], 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD],
        )
    finally:
        os.chdir("/")
        os.close(null)
