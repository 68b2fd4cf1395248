"""`python -P -m orch.agent STORE RUNTIME READY`: the agent of this user and host for a store.

Started by `orch.agent.start`, in its own session, with its log as output. It writes one line to the descriptor READY
once it listens. SIGTERM ends its attempts as lost, uncharged, and then itself; SIGINT and SIGHUP mean nothing to it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

from orch.agent.guardian import guarded
from orch.agent.start import READY
from orch.errors import AdapterError

LINGER = 5.0
"""Seconds for which an agent stays when nobody needs it; `ORCH_AGENT_LINGER` in its environment says otherwise."""

LOCK_PATIENCE = 20
"""Seconds to wait for an agent that is just leaving."""


def serve(store: str, runtime: str, ready: int) -> int:
    """Be the agent. Where that cannot be, the starter hears why: a full disk may keep the log from saying it."""
    from orch.agent import paths
    from orch.agent.assemble import complain
    from orch.agent.linux import adopt_orphans

    adopt_orphans()
    os.chdir("/")
    try:
        lock, listening, go_on = _begin(store, runtime)
    except (OSError, AdapterError) as error:
        complain(str(error))
        _tell(ready, str(error).encode("utf-8", "backslashreplace"))
        return 1
    if not _tell(ready, READY):
        return 1
    go_on()
    os.unlink(os.path.join(runtime, paths.SOCKET))
    listening.close()
    os.close(lock)
    return 0


def _tell(ready: int, text: bytes) -> bool:
    """Say it to whoever started this agent. False if that is dead: the next one may be starting another already."""
    try:
        os.write(ready, text)
    except BrokenPipeError:
        return False
    os.close(ready)
    return True


def _begin(store: str, runtime: str) -> tuple[int, socket.socket, Callable[[], None]]:
    """The agent's lock, the socket that it listens on, and what makes it serve."""
    from orch.agent import paths
    from orch.agent.assemble import assemble

    home = paths.agent_directory(store)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LOCK_PATIENCE)
    lock = paths.lock(os.path.join(home, "agent.lock"))
    signal.alarm(0)
    listening = paths.listen(runtime)
    agent, go_on = assemble(store, runtime, listening, linger())
    paths.write_pointer(store, runtime)
    signal.signal(signal.SIGTERM, lambda *_: agent.end())
    return lock, listening, go_on


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError("another agent of this store lives on this host, and holds agent.lock, but does not answer")


def linger() -> float:
    """How long to stay."""
    try:
        return max(0.0, float(os.environ.get("ORCH_AGENT_LINGER", LINGER)))
    except ValueError:
        return LINGER


def main() -> int:
    """Become guardian and agent, as children of nobody who waits for them: the process that was started ends."""
    if os.fork():
        return 0
    store, runtime, ready = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.set_inheritable(ready, False)  # noqa: FBT003 - a fixed signature
    return guarded(lambda: serve(store, runtime, ready))


if __name__ == "__main__":
    sys.exit(main())
