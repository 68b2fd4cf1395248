"""A log in memory: what `orch.leader.leader.Writer` asks for, with crashes on command.

`MemoryLog` is what is durable, and outlives its writers; `MemoryLog.open` begins an epoch, gives its writer, and fences
the writers before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from anyio.lowlevel import checkpoint

from orch.bus import events as ev
from orch.bus.errors import Fenced
from orch.testing.faults import Crash, Crashed, SimClock


class MemoryLog:
    """The durable part, which outlives its writers.

    `events` all that is durable
    `clock`  gives the events their time
    """

    def __init__(self, run: str = "run", clock: Callable[[], str] | None = None) -> None:
        self.run = run
        self.events: list[ev.Event] = []
        self.epoch = 0
        self.clock = clock or SimClock()

    def open(self, crash: Crash | None = None, pauses: Callable[[], int] = lambda: 0) -> MemoryWriter:
        """Begin an epoch: older writers are fenced. `pauses` says how many turns of the loop a commit takes."""
        self.epoch += 1
        writer = MemoryWriter(self, self.epoch, crash, pauses)
        self.events += writer.stage([ev.Opened(run=self.run, host="host", pid=self.epoch)])
        writer.staged.clear()
        return writer


class MemoryWriter:
    """The one writer of an epoch. `staged` is what the next commit makes durable, `opened` the epoch's first event."""

    def __init__(self, log: MemoryLog, epoch: int, crash: Crash | None, pauses: Callable[[], int]) -> None:
        self.epoch = epoch
        self.staged: list[ev.Event] = []
        self._log = log
        self._crash = crash
        self._pauses = pauses
        self._next = len(log.events) + 1

    @property
    def opened(self) -> ev.Event:
        """The first event of this epoch."""
        return next(event for event in self._log.events if event.epoch == self.epoch)

    def stage(self, events: Sequence[ev.Event]) -> list[ev.Event]:
        """Number and date events, to be written with the next `commit`."""
        group = self.staged[0].seq if self.staged else self._next
        time = self._log.clock()
        stamped = [
            msgspec.structs.replace(event, seq=self._next + k, time=time, epoch=self.epoch, group=group)
            for k, event in enumerate(events)
        ]
        self._next += len(stamped)
        self.staged += stamped
        return stamped

    async def commit(self) -> None:
        """Make everything staged durable. Raises `Fenced`, or `Crashed` where that was ordered.

        A crash before is a group that was cut off; a crash after (or half-way: groups are whole or void) is one that
        the leader never learnt of.
        """
        for _ in range(self._pauses()):
            await checkpoint()
        crash = self._crash is not None and self._crash.due()
        if crash and self._crash is not None and self._crash.when == "before":
            raise Crashed(f"before event {self._next - 1} was durable")
        if self.epoch != self._log.epoch:
            raise Fenced(f"epoch {self._log.epoch} has begun")
        self._log.events += self.staged
        self.staged = []
        if crash:
            raise Crashed(f"after event {self._next - 1} was durable")

    def fetch(self, seq: int) -> ev.Event:
        """Read a durable event again."""
        if not 1 <= seq <= len(self._log.events):
            raise LookupError(f"there is no event {seq}")
        return self._log.events[seq - 1]

    async def close(self, reason: str = "") -> None:
        """End the segment in order."""
        if reason:
            self.stage([ev.Closed(reason=reason)])
        if self.staged:
            await self.commit()
