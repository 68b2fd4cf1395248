"""The life of a simulated agent: the real `orch.agent.core.Agent`, on ports at each of which it may be killed."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orch.agent.admission import Admission
from orch.agent.core import Agent
from orch.agent.journal import Ended, Journal, _next
from orch.agent.ports import Parts
from orch.agent.rooms import Room
from orch.agent.start import AgentDiedError
from orch.attempt import Place
from simulator.bodies import Bodies
from simulator.process import Killed, Process
from simulator.wire import AgentEnd, LeaderEnd, connect

if TYPE_CHECKING:
    from simulator.host import Host

LINGER = 5.0


@dataclasses.dataclass(eq=False)
class SimTimer:
    """Something that will be done, or not."""

    on: bool = True

    def cancel(self) -> None:
        self.on = False


class SimRoom(Room):
    """A place, and nothing in it."""

    def __init__(self, place: Place) -> None:
        self.place = place


class SimRooms:
    """There is room everywhere."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def room(self, runtime: str) -> Room:
        return SimRoom(Place(store=self._host.store, scratch=runtime, host=self._host.name))


class AgentLife:
    """One process. `doom`: it is killed at so many calls of its ports from now; 0: it is not.

    It is an actor of the world, and the ports `Loop` and `Leftovers` of its agent.
    """

    def __init__(self, host: Host, doom: int) -> None:
        self.alive = True
        self.stopped = False
        self.doom = doom
        self.pid = host.next_pid()
        self.admission = Admission(host.totals, lambda _run, _shape: False)
        self._host = host
        self._world = host.world
        self._bodies = Bodies(host, self, self.admission)
        self._inbox: list[Callable[[], None]] = []
        self._ends: list[AgentEnd] = []
        self._leaving = False
        self._agent: Agent

    def begin(self) -> None:
        """Open the journal, end what an earlier agent left, and listen. Raises `AgentDiedError`."""
        self._world.actors.append(self)
        self._world.say(self._name, "starts")
        try:
            self._agent = self._bodies.listener = Agent(self._parts())
            self._bodies.recover()
            self._agent.turn()
        except (Killed, OSError) as error:
            self.kill()
            raise AgentDiedError(f"the agent could not be started: {error!r}") from error

    def _parts(self) -> Parts:
        host = self._host
        return Parts(
            host=host.name,
            pid=self.pid,
            boot=f"boot {host.boots}",
            monotonic=lambda: self._world.now,
            boottime=lambda: self._world.now - host.booted,
            linger=LINGER,
            loop=self,
            rooms=SimRooms(host),
            execution=self._bodies,
            admission=self.admission,
            journal=Journal(SimStorage(self, host), f"boot {host.boots}", self.pid),
            leftovers=self,
            latest_epoch=host.latest_epoch,
            running=lambda: None,
            complain=lambda line: self._world.say(self._name, line),
        )

    @property
    def _name(self) -> str:
        return f"agent {self.pid}"

    # The world's.

    @property
    def ready(self) -> bool:
        return bool(self._inbox) and not self.stopped

    def step(self) -> None:
        """One turn: hear some of what has come, and act upon it."""
        count = self._world.chance.randint(1, len(self._inbox))
        heard, self._inbox = self._inbox[:count], self._inbox[count:]
        try:
            for each in heard:
                each()
            self._agent.turn()
            self._settle()
            if self._leaving:
                self._agent.leave()
                self._end("leaves")
        except Killed:
            self.kill()
        except Exception as error:  # noqa: BLE001 - whatever it is, a real agent would be dead now
            self._host.troubles.append(error)
            self.kill()

    def _settle(self) -> None:
        """What has ended in this turn is in the journal now, if that can be written."""
        if not self._agent._trouble:
            for task in self._bodies.ended:
                self._host.settle(task)
            self._bodies.ended.clear()

    def _settle_the_rest(self) -> None:
        """It dies in the middle of a turn: the next one knows what it has written by now, and nothing else."""
        data, at, said = self._host.disk.get(self._host.journal) or b"", 0, set()
        while self._bodies.ended and (record := _next(data, at)) is not None:
            at += 8 + int.from_bytes(data[at : at + 4], "big")
            if isinstance(record, Ended):
                said.add(record.outcome.key)
        for task in self._bodies.ended:
            if task.key in said:
                self._host.settle(task)

    def post(self, action: Callable[[], None]) -> None:
        """Have it hear of something; nothing if it is dead."""
        if self.alive:
            self._inbox.append(action)

    def port(self) -> None:
        """It does something to the world: or dies just before. Raises `Killed`."""
        if not self.alive:
            raise Killed
        if self.doom:
            self.doom -= 1
            if not self.doom:
                raise Killed

    def kill(self) -> None:
        """SIGKILL. Its guardian ends the bodies in a moment; if that has died too, they live on."""
        if self.alive:
            self._settle_the_rest()
            self._end("is killed")
            if self._world.likely(0.5):
                for body in list(self._host.bodies.values()):
                    self._world.soon(self._host.weather.delay, body.kill)

    def _end(self, how: str) -> None:
        self._world.say(self._name, how)
        self.alive = False
        self._world.actors.remove(self)
        for end in self._ends:
            end.died()
        if self._host.agent is self:
            self._host.agent = None

    def terminate(self) -> None:
        """SIGTERM."""
        self._world.say(self._name, "is told to end")
        self.post(self._agent.end)

    def connect(self, process: Process, leader: LeaderEnd) -> None:
        """Somebody connects."""
        end = AgentEnd(self)
        connect(self._world, self._host.weather.delay, leader, end)
        if not self.alive:
            end.died()
            return
        self._ends.append(end)

        def accept() -> None:
            end.ear = self._agent.accept(end)

        self.post(accept)

    # The agent's loop.

    def after(self, seconds: float, action: Callable[[], None]) -> SimTimer:
        timer = SimTimer()

        def due() -> None:
            if timer.on:
                self.post(lambda: action() if timer.on else None)

        self._world.later(seconds, due)
        return timer

    def stop(self) -> None:
        self._leaving = True

    # What an earlier agent has left.

    def end_marked(self) -> list[int]:
        self.port()
        for body in list(self._host.bodies.values()):
            body.kill()
        return []

    def end_started_about(self, pid: int, since: float) -> None:
        self.port()
        body = self._host.bodies.get(pid)
        if body is not None:
            body.kill()


class SimStorage:
    """The journal on the simulated disk (`orch.agent.storage.Storage`). The agent may die in the middle of a write."""

    def __init__(self, agent: AgentLife, host: Host) -> None:
        self._agent = agent
        self._world = host.world
        self._disk = host.disk
        self._path = host.journal
        self._before("open")
        if self._path in self._disk.names:
            self._handle = self._disk.open(self._path)
        else:
            self._handle = self._disk.create(self._path)
            self._disk.sync_dir(self._path.parent)

    def load(self) -> bytes:
        self._before("read")
        return self._disk.get(self._path) or b""

    def append(self, data: bytes) -> int:
        part = data[: self._world.chance.randint(1, len(data))] if self._world.likely(0.2) else data
        try:
            self._before("write")
        except Killed:
            self._disk.write(self._handle, part[: self._world.chance.randint(0, len(part))])
            raise
        return self._write(self._handle, part)

    def _write(self, handle: int, data: bytes) -> int:
        written = self._disk.write(handle, data)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        return written

    def truncate(self, length: int) -> None:
        self._before("truncate")
        self._disk.truncate(self._handle, length)

    def sync(self) -> None:
        try:
            self._before("sync")
        except OSError:
            self._disk.fail_sync(self._handle)
            raise
        self._disk.sync(self._handle)

    def replace(self, data: bytes) -> None:
        new = Path(f"{self._path}.new")
        if new in self._disk.names:
            self._disk.unlink(new)
        self._before("create")
        handle = self._disk.create(new)
        while data:
            self._before("write")
            data = data[self._write(handle, data) :]
        self._before("sync")
        self._disk.sync(handle)
        self._before("rename")
        self._disk.rename(new, self._path)
        self._handle = handle
        self._before("sync_dir")
        self._disk.sync_dir(self._path.parent)

    def close(self) -> None:
        self._disk.close(self._handle)

    def _before(self, what: str) -> None:
        self._agent.port()
        self._disk.fail(what, self._path)
