"""A connection between a leader and an agent: bytes arrive in order, later, and in pieces of any size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from orch.adapters.local import Link
from orch.agent.connections import Connection
from simulator.process import Process
from simulator.world import World

if TYPE_CHECKING:
    from simulator.agent import AgentLife


class Wire:
    """One direction. `arrive` is called with each piece, `over` once, after the last one."""

    def __init__(self, world: World, delay: float, arrive: Callable[[bytes], None], over: Callable[[], None]) -> None:
        self._world = world
        self._delay = delay
        self._arrive = arrive
        self._over = over
        self._bytes = bytearray()
        self._ended = False
        self._moving = False

    def send(self, data: bytes) -> None:
        """Put bytes on their way."""
        if data and not self._ended:
            self._bytes += data
            self._move()

    def finish(self) -> None:
        """Nothing more will come; what was sent still arrives."""
        if not self._ended:
            self._ended = True
            self._move()

    def cut(self) -> None:
        """The sender has died: what it sent arrives up to anywhere, and nothing more."""
        if not self._ended:
            del self._bytes[self._world.chance.randint(0, len(self._bytes)) :]
            self.finish()

    def _move(self) -> None:
        if not self._moving:
            self._moving = True
            self._world.soon(self._delay, self._deliver)

    def _deliver(self) -> None:
        self._moving = False
        if not self._bytes:
            self._over()
            return
        count = self._world.chance.randint(1, len(self._bytes)) if self._world.likely(0.3) else len(self._bytes)
        piece = bytes(self._bytes[:count])
        del self._bytes[:count]
        if self._bytes or self._ended:
            self._move()
        self._arrive(piece)


class LeaderEnd(asyncio.Transport):
    """The leader's side, as its loop has it. `wire` is where it sends."""

    wire: Wire

    def __init__(self, process: Process, link: Link) -> None:
        super().__init__()
        self._process = process
        self._link = link
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._process.check()
        if not self._closing:
            self.wire.send(bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._process.check()
        self._close()

    def abort(self) -> None:
        """Also what a dead process does while it is taken apart: nothing then."""
        if self._process.alive:
            self.wire.cut()
            self._close()

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self.wire.finish()
            self._process.loop.call_soon(self._link.connection_lost, None)

    def died(self) -> None:
        """Its process is gone."""
        self._closing = True
        self.wire.cut()

    def arrive(self, data: bytes) -> None:
        """Bytes have come as far as its process."""
        if self._process.alive:
            self._process.loop.call_soon(self._hear, data)

    def over(self) -> None:
        """The other side has hung up."""
        if self._process.alive:
            self._process.loop.call_soon(self._close)

    def _hear(self, data: bytes) -> None:
        if not self._closing:
            self._link.data_received(data)


class AgentEnd:
    """The agent's side (`orch.agent.connections.Stream`). `wire` is where it sends."""

    wire: Wire
    ear: Connection

    def __init__(self, agent: AgentLife) -> None:
        self._agent = agent
        self._open = True

    def send(self, data: bytes) -> None:
        self._agent.port()
        if self._open:
            self.wire.send(data)

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self.wire.finish()
            self.ear.gone()

    def died(self) -> None:
        """Its process is gone."""
        self._open = False
        self.wire.cut()

    def arrive(self, data: bytes) -> None:
        """Bytes have come as far as its process."""
        self._agent.post(lambda: self._hear(data))

    def over(self) -> None:
        """The other side has hung up."""
        self._agent.post(self.close)

    def _hear(self, data: bytes) -> None:
        if self._open:
            self.ear.feed(data)


def connect(world: World, delay: float, leader: LeaderEnd, agent: AgentEnd) -> None:
    """Lay the wires between two ends."""
    leader.wire = Wire(world, delay, agent.arrive, agent.over)
    agent.wire = Wire(world, delay, leader.arrive, leader.over)
