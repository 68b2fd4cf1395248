"""Streams to agents, many on the one stream to a bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orch.adapters.local import Link
from orch.agent.mux import Kind, frame


class Stream(asyncio.Transport):
    """What a `Link` writes to. It is over when either side says so, or the connection to the host is cut."""

    def __init__(self, number: int, send: Callable[[bytes], None], link: Link) -> None:
        super().__init__()
        self._number = number
        self._send = send
        self._link = link
        self._over = False
        link.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Pass on."""
        if not self._over:
            self._send(frame(self._number, Kind.DATA, bytes(data)))

    def heard(self, data: bytes) -> None:
        """The agent has said something."""
        if not self._over:
            self._link.data_received(data)

    def is_closing(self) -> bool:
        """Is it over?"""
        return self._over

    def close(self) -> None:
        """Hang up; what was written is still passed on."""
        if not self._over:
            self._send(frame(self._number, Kind.CLOSE))
            self._over = True
            asyncio.get_running_loop().call_soon(self._link.connection_lost, None)

    def abort(self) -> None:
        """Hang up."""
        self.close()

    def ended(self) -> None:
        """The other side has hung up."""
        if not self._over:
            self._over = True
            self._link.connection_lost(None)
