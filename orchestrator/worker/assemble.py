"""The agent of a worker: the same machinery as on the user's own host, for one attempt.

It listens to nobody, keeps its journal in memory, and bears a mark of its own, so that neither the host's agent nor
another worker takes its processes for what is left of it. What the attempt asks for is there: the batch system has
seen to that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time

from orch.agent.admission import Admission
from orch.agent.captures import Capture, Captures, Stream
from orch.agent.core import Agent
from orch.agent.devices import Device
from orch.agent.epilogues import Epilogues
from orch.agent.execution import Execution
from orch.agent.journal import Journal
from orch.agent.linux import boot_id
from orch.agent.loop import Loop
from orch.agent.model import Run, Shape, Task
from orch.agent.monitor import Monitor
from orch.agent.ports import Parts
from orch.agent.rooms import Room, Rooms
from orch.agent.scratch import Scratch
from orch.agent.templates import Templates
from orch.agent.totals import Totals
from orch.agent.workers import Workers
from orch.attempt import Place
from orch.store.file import FileStore
from orch.store.private import open_private
from orch.worker.nodes import Directories

ENDLESS = 1 << 62


class InMemory:
    """The journal of an agent that nobody comes after."""

    def load(self) -> bytes:
        """Nothing."""
        return b""

    def append(self, data: bytes) -> int:
        """It is of no use to anybody."""
        return len(data)

    def truncate(self, length: int) -> None:
        """As above."""

    def sync(self) -> None:
        """As above."""

    def replace(self, data: bytes) -> None:
        """As above."""

    def close(self) -> None:
        """As above."""


class Roomy(Admission):
    """There is room for whatever comes, and the devices are the batch system's to give."""

    def fits(self, run: Run, shape: Shape) -> bool:
        """It does."""
        return True

    def never(self, shape: Shape) -> str:
        """Nothing is short."""
        return ""

    def _fits_host(self, shape: Shape) -> bool:
        return True

    def _devices(self, task: Task) -> tuple[Device, ...]:
        return ()


class Outputs(Captures):
    """Those of the attempt are files with names, so that they can be read elsewhere and outlive the worker."""

    def __init__(self, directory: str, stem: str) -> None:
        super().__init__(directory)
        self._stem = stem

    def take(self, limit: int, key: str = "") -> Capture:
        """An empty pair. Raises `OSError`."""
        if not key:
            return super().take(limit)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
        out = open_private(f"{self._stem}.out", flags)
        try:
            return Capture(Stream(out, limit), Stream(open_private(f"{self._stem}.err", flags), limit))
        except BaseException:  # nobody else will close it, whatever went wrong
            os.close(out)
            raise

    def give_back(self, capture: Capture, *, reuse: bool = True) -> None:
        """What it holds stays where it is."""
        capture.close()


def assemble(
    loop: Loop, store: str, host: str, directories: Directories, output: str, grace: float
) -> tuple[Agent, Execution]:
    """An agent for one attempt, and what runs it. `output`: the path of the attempt's output without ".out".

    Raises `OSError`.
    """
    name = mark()
    rooms = Rooms(store, host)
    scratch = Scratch(directories.runtime, directories.kept)
    place = Place(store, scratch.root, host, directories.deferred)
    rooms.use(directories.runtime, Room(scratch, Outputs(directories.runtime, output), place))
    execution = Execution(loop, FileStore(store), rooms, agent=name, host=host, grace=grace)
    execution.templates = Templates(loop, execution, name, store)
    execution.epilogues = Epilogues(loop, name, store, directories.deferred)
    execution.workers = Workers(execution.templates, most_idle=1)
    execution.admission = Roomy(Totals(ENDLESS, ENDLESS, ENDLESS), execution.workers.room)
    agent = execution.listener = Agent(_parts(loop, rooms, execution, host))
    execution.epilogues.recover(ours=True)
    return agent, execution


def _parts(loop: Loop, rooms: Rooms, execution: Execution, host: str) -> Parts:
    boot = boot_id()
    return Parts(
        host=host,
        pid=os.getpid(),
        boot=boot,
        monotonic=time.monotonic,
        boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        linger=0.0,
        loop=loop,
        rooms=rooms,
        execution=execution,
        admission=execution.admission,
        journal=Journal(InMemory(), boot, os.getpid()),
        leftovers=NoLeftovers(),
        latest_epoch=lambda _run: 0,
        running=Monitor(loop, execution).wake,
        complain=complain,
    )


class NoLeftovers:
    """Nobody was here before."""

    def end_marked(self) -> list[int]:
        """There are none."""
        return []

    def end_started_about(self, pid: int, since: float) -> None:
        """There are none."""


def complain(line: str) -> None:
    """In the worker's log. Where that cannot be written, as on a full disk, nothing is said."""
    with contextlib.suppress(OSError):
        os.write(2, f"orch: {line}\n".encode("utf-8", "backslashreplace"))


def mark() -> str:
    """The first part of its marks, which no other process has or had."""
    return hashlib.sha256(os.urandom(32)).hexdigest()[:16]
