"""The agent's side of its leaders' connections."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

import msgspec

from orch.adapters.contract import Update
from orch.agent import protocol
from orch.agent.loop import IN, OUT, Loop
from orch.agent.model import Run

MOST_UNSENT = 256 * 1024 * 1024
"""Bytes that wait for a leader that does not listen; beyond that its connection ends, and nothing is lost."""


class Service(Protocol):
    """Who answers."""

    def heard(self, connection: Connection, message: protocol.FromLeader) -> None:
        """A message came."""

    def closed(self, connection: Connection) -> None:
        """The connection is over."""


class Connection:
    """One leader's connection. `run` is set once it has said hello."""

    def __init__(self, loop: Loop, end: socket.socket, service: Service) -> None:
        self._loop = loop
        self._end = end
        self._service = service
        self._frames = protocol.Frames()
        self._unsent = bytearray()
        self._closing = False
        self.run: Run | None = None
        self.updates: list[Update] = []
        end.settimeout(0)
        loop.add(end.fileno(), self._possible)

    def send(self, message: protocol.FromAgent) -> None:
        """Send, now or when there is room."""
        if self._end.fileno() < 0:
            return
        data = protocol.frame(message)
        if not self._unsent:
            data = data[self._write(data) :]
        if data and self._end.fileno() >= 0:
            self._unsent += data
            self._loop.want(self._end.fileno(), IN | OUT)
            if len(self._unsent) > MOST_UNSENT:
                self.close()

    def flush_updates(self) -> None:
        """Send the updates that have gathered."""
        if self.updates:
            items, self.updates = self.updates, []
            self.send(protocol.Updates(items))

    def refuse(self, message: str, *, fenced: bool = False) -> None:
        """Say why, and close."""
        self.send(protocol.Refused(message, fenced))
        if self._unsent:
            self._closing = True
        else:
            self.close()

    def close(self) -> None:
        """End the connection."""
        if self._end.fileno() >= 0:
            self._loop.remove(self._end.fileno())
            self._end.close()
            self._service.closed(self)

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._end.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0

    def _possible(self, mask: int) -> None:
        if mask & OUT:
            del self._unsent[: self._write(self._unsent)]
            if not self._unsent and self._end.fileno() >= 0:
                self._loop.want(self._end.fileno(), IN)
                if self._closing:
                    self.close()
        if mask & ~OUT and self._end.fileno() >= 0:
            self._read()

    def _read(self) -> None:
        try:
            data = self._end.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        for each in self._frames.feed(data):
            try:
                message = protocol.from_leader(each)
            except msgspec.DecodeError as error:
                self.refuse(f"the agent does not understand: {error}")
                return
            self._service.heard(self, message)
            if self._end.fileno() < 0:
                return


class Listener:
    """Accepts the connections of this user's processes, and of nobody else's."""

    def __init__(self, loop: Loop, listening: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._socket = listening
        self._accepted = accepted
        loop.add(listening.fileno(), self._possible)

    def _possible(self, _mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            end, _ = self._socket.accept()
            peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", peer)[1] == os.getuid():
                self._accepted(end)
            else:
                end.close()
