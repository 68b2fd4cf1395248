"""The agent's side of its leaders' connections: messages in a stream of bytes, wherever the bytes come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from orch.adapters.contract import Update
from orch.agent import protocol
from orch.agent.model import Run

LONGEST_HELLO = 64 * 1024 * 1024
"""Bytes. Whoever announces more before it has said who it is, is no leader."""


class Stream(Protocol):
    """This side of a stream of bytes. When it is over, whoever is to blame, `Connection.gone` is called, once."""

    def send(self, data: bytes) -> None:
        """Send, now or when there is room."""

    def finish(self) -> None:
        """End it once everything has been sent."""

    def close(self) -> None:
        """End it."""


class Service(Protocol):
    """Who answers."""

    def heard(self, connection: Connection, message: protocol.FromLeader) -> None:
        """A message came."""

    def closed(self, connection: Connection) -> None:
        """The connection is over."""


class Connection:
    """One leader's connection. `run` is set once it has said hello.

    `still`: how many updates the leader had had when it said that its run stands still; -1: it does not
    `gives_way`: it was told to give way
    `pressing`: among the updates is one after which it may have something to do
    """

    def __init__(self, stream: Stream, service: Service) -> None:
        self._stream = stream
        self._service = service
        self._frames = protocol.Frames()
        self._hearing = True
        self._open = True
        self.run: Run | None = None
        self.updates: list[Update] = []
        self.pressing = False
        self.still = -1
        self.gives_way = False
        self._sent = 0

    @property
    def stands_still(self) -> bool:
        """Does its run, with all that it has been told or is about to be told?"""
        return self.still == self._sent + len(self.updates)

    def send(self, message: protocol.FromAgent) -> None:
        """Send, now or when there is room."""
        if self._open:
            self._stream.send(protocol.frame(message))

    def tell(self, updates: Iterable[Update], *, pressing: bool) -> None:
        """Have these sent with the next `flush_updates`."""
        self.updates.extend(updates)
        self.pressing |= pressing

    def flush_updates(self) -> None:
        """Send the updates that have gathered."""
        self.pressing = False
        if self.updates:
            items, self.updates = self.updates, []
            self._sent += len(items)
            self.send(protocol.Updates(items))

    def refuse(self, message: str, *, fenced: bool = False) -> None:
        """Say why, and close."""
        self.send(protocol.Refused(message, fenced))
        self._hearing = False
        if self._open:
            self._stream.finish()

    def close(self) -> None:
        """End the connection."""
        if self._open:
            self._stream.close()

    # Told by the stream ---------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes of the leader have come."""
        for each in self._frames.feed(data):
            if not self._hearing:
                return
            try:
                message = protocol.from_leader(each)
            except (ValueError, RecursionError) as error:
                self.refuse(f"the agent does not understand: {error}")
                return
            self._service.heard(self, message)
        if self._hearing and self.run is None and self._frames.awaited > LONGEST_HELLO:
            self.refuse(f"the agent does not understand: a first message of {self._frames.awaited} bytes")

    def gone(self) -> None:
        """The stream is over."""
        self._open = self._hearing = False
        self._service.closed(self)
