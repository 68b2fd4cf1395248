"""Publish and subscribe, in the leader's process, to committed events.

The topic keeps the newest events; each subscriber is only a position. Who falls behind what is kept reads the log on
disk until it has caught up. So a slow subscriber loses nothing, costs no memory, and slows nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import anyio
import anyio.to_thread

from orch.bus.events import Event
from orch.bus.reader import read

KEEP = 4096
"""Events kept in memory."""

_BATCH = 512
"""Events that a subscriber takes, or reads from disk, at once."""

Source = Callable[[int, int], Iterable[Event]]
"""Reads the committed events from one number to another, both included."""


class Topic:
    """The committed events of one run, up to `last_seq` so far; older ones are read from the log in `directory`."""

    def __init__(self, directory: Path, *, last_seq: int = 0, keep: int = KEEP, source: Source | None = None) -> None:
        self.last_seq = last_seq
        self._source = source or partial(_read, directory)
        self._kept: deque[Event] = deque(maxlen=keep)
        self._news: anyio.Event | None = None
        self._closed = False

    def publish(self, events: Sequence[Event]) -> None:
        """Hand out events that are durable, in the order of the log. Never waits."""
        for event in events:
            if event.seq != self.last_seq + 1:
                raise ValueError(f"event {event.seq} cannot be published after event {self.last_seq}")
            self._kept.append(event)
            self.last_seq = event.seq
        self._wake()

    def close(self) -> None:
        """No more events will come: subscribers end once they have had all of them."""
        self._closed = True
        self._wake()

    def subscribe(self, from_seq: int | None = None) -> AsyncIterator[Event]:
        """Events from `from_seq` on; None: those published from now on. Ends when the topic is closed."""
        return self._events(self.last_seq + 1 if from_seq is None else max(1, from_seq))

    async def _events(self, seq: int) -> AsyncIterator[Event]:
        while await self._wait_for(seq):
            for event in await self._batch(seq):
                seq = event.seq + 1
                yield event

    async def _wait_for(self, seq: int) -> bool:
        """Wait until event `seq` is there; False if it will never be."""
        while seq > self.last_seq:
            if self._closed:
                return False
            self._news = self._news or anyio.Event()
            await self._news.wait()
        return True

    async def _batch(self, seq: int) -> list[Event]:
        """Some events from `seq` on, at least one."""
        oldest = self.last_seq - len(self._kept) + 1
        if seq >= oldest:
            return list(islice(self._kept, seq - oldest, seq - oldest + _BATCH))
        last = min(seq + _BATCH - 1, self.last_seq)
        return await anyio.to_thread.run_sync(lambda: list(self._source(seq, last)))

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


def _read(directory: Path, first: int, last: int) -> Iterable[Event]:
    return read(directory, from_seq=first, to_seq=last)
