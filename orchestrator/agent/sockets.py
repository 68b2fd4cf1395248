"""Leaders' connections as sockets of the agent's loop."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from orch.agent.loop import IN, OUT, Loop

MOST_UNSENT = 256 * 1024 * 1024
"""Bytes that wait for a leader that does not listen; beyond that its connection ends, and nothing is lost."""


_AT_ONCE = 1 << 16
"""Bytes: of a buffer that is much longer, the memory would be asked of the kernel anew for each message."""


class Ear(Protocol):
    """Who hears what comes (`orch.agent.connections.Connection`)."""

    def feed(self, data: bytes) -> None:
        """Bytes have come."""

    def gone(self) -> None:
        """It is over."""


class SocketStream:
    """A connected socket as a stream. `ear` is set before the loop goes on."""

    ear: Ear

    def __init__(self, loop: Loop, end: socket.socket) -> None:
        self._loop = loop
        self._end = end
        self._unsent = bytearray()
        self._finishing = False
        end.settimeout(0)
        loop.add(end.fileno(), self._possible)

    def send(self, data: bytes) -> None:
        """Send, now or when there is room."""
        if not self._unsent:
            data = data[self._write(data) :]
        if data and self._end.fileno() >= 0:
            self._unsent += data
            self._loop.want(self._end.fileno(), IN | OUT)
            if len(self._unsent) > MOST_UNSENT:
                self.close()

    def finish(self) -> None:
        """End it once everything has been sent."""
        if self._unsent:
            self._finishing = True
        else:
            self.close()

    def close(self) -> None:
        """End it."""
        if self._end.fileno() >= 0:
            self._loop.remove(self._end.fileno())
            self._end.close()
            self.ear.gone()

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
                if self._finishing:
                    self.close()
        if mask & ~OUT and self._end.fileno() >= 0:
            self._read()

    def _read(self) -> None:
        try:
            data = self._end.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.ear.feed(data)
        else:
            self.close()


class Doorkeeper:
    """Accepts the connections of this user's processes, and of nobody else's."""

    def __init__(self, loop: Loop, listening: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        self._socket = listening
        self._accepted = accepted
        loop.add(listening.fileno(), self._possible)

    def _possible(self, _mask: int) -> None:
        with contextlib.suppress(OSError):  # out of descriptors, say: who wants to connect waits, and the agent lives
            end, _ = self._socket.accept()
            peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", peer)[1] == os.getuid():
                self._accepted(end)
            else:
                end.close()
