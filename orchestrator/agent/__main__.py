"""`python -P -m orch.agent STORE`: the agent of this user and host for a store.

Started by `orch.agent.forerunner`, in its own session. Its orders come on stdin: the runtime directory to live in, and
the log to write to; without any, it leaves. It writes one line to what was its stdout once it listens. SIGTERM ends its
attempts as lost, uncharged, and then itself; SIGINT and SIGHUP mean nothing to it. STORE is for people who look at
processes.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from orch.agent.forerunner import READY
from orch.agent.guardian import guarded, let_go_of_everything, write_to
from orch.errors import AdapterError

if TYPE_CHECKING:
    from orch.agent.ahead import Ahead

LINGER = 5.0
"""Seconds for which an agent stays when nobody needs it; `ORCH_AGENT_LINGER` in its environment says otherwise."""

LOCK_PATIENCE = 20
"""Seconds to wait for an agent that is just leaving."""


def serve(store: str, orders: int, ready: int, cwd: str, tell: Callable[[bytes], None]) -> int:
    """Be the agent. Where that cannot be, the starter hears why: a full disk may keep the log from saying it.

    `cwd` is where the starter was. `tell` lets the guardian know the log.
    """
    ahead = _start_ahead(orders, cwd)
    from orch.agent import paths
    from orch.agent.assemble import complain
    from orch.agent.linux import adopt_orphans

    adopt_orphans()
    said = _read(orders)
    if not said:
        return 0
    runtime, _, log = said.partition(b"\0")
    try:
        write_to(os.fsdecode(log))
    except OSError as error:
        _tell(ready, str(error).encode("utf-8", "backslashreplace"))
        return 1
    tell(log)
    try:
        lock, listening, go_on = _begin(store, os.fsdecode(runtime), ahead)
    except (OSError, AdapterError) as error:
        complain(str(error))
        _tell(ready, str(error).encode("utf-8", "backslashreplace"))
        return 1
    if not _tell(ready, READY):
        return 1
    go_on()
    os.unlink(os.path.join(os.fsdecode(runtime), paths.SOCKET))
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


def _start_ahead(orders: int, cwd: str) -> Ahead | None:
    """Where there are no orders yet, there is time: start what is probably wanted soon."""
    from orch.agent.ahead import start_ahead

    if select.select([orders], [], [], 0)[0]:
        return None
    try:
        return start_ahead(cwd)
    except OSError:  # it goes wrong again, and is told, when one is wanted
        return None


def _begin(store: str, runtime: str, ahead: Ahead | None) -> tuple[int, socket.socket, Callable[[], None]]:
    """The agent's lock, the socket that it listens on, and what makes it serve."""
    from orch.agent import paths
    from orch.agent.assemble import assemble

    home = paths.agent_directory(store)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LOCK_PATIENCE)
    lock = paths.lock(os.path.join(home, "agent.lock"))
    signal.alarm(0)
    listening = paths.listen(runtime)
    agent, go_on = assemble(store, runtime, listening, linger(), ahead)
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


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


def main() -> int:
    """Become guardian and agent, as children of nobody who waits for them: the process that was started ends."""
    if os.fork():
        os._exit(0)
    let_go_of_everything()  # what the starter was given by whoever started it is not ours to hold
    cwd = _here()
    os.chdir("/")
    orders, ready = os.dup(0), os.dup(1)
    write_to("", to=(0,))
    return guarded(lambda tell: serve(sys.argv[1], orders, ready, cwd, tell))


if __name__ == "__main__":
    sys.exit(main())
