"""An agent with its real parts: this machine's processes, sockets, files and clocks."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from orch.agent.admission import Admission
from orch.agent.ahead import Ahead
from orch.agent.core import Agent
from orch.agent.epilogues import Epilogues
from orch.agent.execution import Execution
from orch.agent.journal import Journal
from orch.agent.linux import boot_id
from orch.agent.loop import Loop
from orch.agent.monitor import Monitor
from orch.agent.paths import agent_directory, deferred_directory, has_original, host_name, is_copy
from orch.agent.ports import Parts
from orch.agent.processes import end_marked, kill_if_started_about
from orch.agent.rooms import Rooms
from orch.agent.sockets import Doorkeeper, SocketStream
from orch.agent.storage import StoredFile
from orch.agent.tags import agent_name
from orch.agent.templates import Templates
from orch.agent.totals import host_totals
from orch.agent.workers import Workers
from orch.bus.errors import LogTrouble
from orch.bus.files import REAL
from orch.bus.segment import epochs
from orch.store import layout
from orch.store.file import FileStore

JOURNAL = "journal"


def assemble(
    store: str, runtime: str, listening: socket.socket, linger: float, ahead: Ahead | None = None
) -> tuple[Agent, Callable[[], None]]:
    """An agent that lives in a runtime directory, and what makes it serve until there is no reason to.

    Raises `OSError` if it cannot live there.
    """
    host = host_name()
    name = agent_name(store, host)
    loop = Loop()
    rooms = Rooms(store, host)
    rooms.room(runtime)
    execution = _execution(loop, rooms, store, runtime, name, host)
    if ahead is not None:
        execution.templates.use(ahead)
    parts = Parts(
        host=host,
        pid=os.getpid(),
        boot=boot_id(),
        monotonic=time.monotonic,
        boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        linger=linger,
        loop=loop,
        rooms=rooms,
        execution=execution,
        admission=execution.admission,
        journal=Journal(StoredFile(os.path.join(agent_directory(store), JOURNAL), store), boot_id(), os.getpid()),
        leftovers=RealLeftovers(name, ours=not is_copy(store)),
        latest_epoch=lambda run: latest_epoch(store, run),
        running=Monitor(loop, execution).wake,
        complain=complain,
        store=store,
        store_is_there=same_directory(store),
    )
    agent = execution.listener = Agent(parts)
    execution.epilogues.recover(ours=not has_original(store))

    def accept(end: socket.socket) -> None:
        stream = SocketStream(loop, end)
        stream.ear = agent.accept(stream)

    def serve() -> None:
        agent.turn()
        loop.run(agent.turn, execution.child_ended)
        agent.leave()

    Doorkeeper(loop, listening, accept)
    return agent, serve


def complain(line: str) -> None:
    """Say something in the agent's log. Where that cannot be written, as on a full disk, nothing is said."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{line}\n".encode("utf-8", "backslashreplace"))


def _execution(loop: Loop, rooms: Rooms, store: str, runtime: str, name: str, host: str) -> Execution:
    execution = Execution(loop, FileStore(store), rooms, agent=name, host=host)
    totals = host_totals(runtime)
    execution.templates = Templates(loop, execution, name, store)
    execution.epilogues = Epilogues(loop, name, store, deferred_directory(store, host))
    execution.workers = Workers(execution.templates, most_idle=max(2, int(totals.cores)))
    execution.admission = Admission(totals, execution.workers.room)
    return execution


class RealLeftovers:
    """Processes that an earlier agent has left, by their mark."""

    def __init__(self, agent: str, *, ours: bool) -> None:
        self._agent = agent
        self._ours = ours

    def end_marked(self) -> list[int]:
        """End all that bear its mark, and wait for it; the pids of those that cannot be ended."""
        return end_marked(f"{self._agent}:")

    def end_started_about(self, pid: int, since: float) -> None:
        """End `pid` if it started in the seconds before `since` (seconds since the machine's start).

        In the copy of a store, the journal speaks of processes that belong to the original.
        """
        if self._ours:
            kill_if_started_about(pid, since)


def same_directory(path: str) -> Callable[[], bool]:
    """Tells whether `path` is still the directory that it is now. What cannot be found out counts as yes."""
    now = os.stat(path)

    def same() -> bool:
        try:
            return os.path.samestat(os.stat(path), now)
        except FileNotFoundError:
            return False
        except OSError:
            return True

    return same


def latest_epoch(store: str, run: str) -> int:
    """The highest epoch that has claimed a segment of the run's log."""
    try:
        return max(epochs(Path(store, layout.log_dir(run)), REAL), default=0)
    except LogTrouble:
        return 0
