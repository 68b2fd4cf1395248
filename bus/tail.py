"""Following a log from another process, or another host, as it grows.

By looking again and again, since that works on every file system: often right after something came, ever less often
when nothing does, and at once where this host's kernel says that something was written. Files are opened anew for each
look, because on NFS only that shows what others have written.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread

from orch.bus.errors import LogDamaged
from orch.bus.events import Closed, Ended, Event, Opened, Requested, Warned
from orch.bus.files import REAL, Files
from orch.bus.reader import decoded, seek
from orch.bus.scan import blocks
from orch.bus.segment import Span, chain, epochs
from orch.bus.watch import Watch

SOON = 0.01
"""Seconds until the next look after something came. What is written meanwhile is read in one go."""

LATE = 0.25
"""Seconds between looks when nothing has come for long."""

_UNCLOSED = 20
"""Looks in vain after `ended` until we no longer wait for `closed`: the leader died between the two."""

_AT_ONCE = 4 * 1024 * 1024
"""Bytes of a batch, about."""

_NEUTRAL = (Opened, Closed, Requested, Warned)
"""Events that do not take back that the run has ended."""

Sleep = Callable[[float], Awaitable[None]]


async def follow(
    directory: Path,
    from_seq: int = 1,
    *,
    until_ended: bool = False,
    sleep: Sleep | None = None,
    files: Files = REAL,
) -> AsyncIterator[list[Event]]:
    """The events from `from_seq` on, in batches of whole groups, and then what comes, for ever.

    With `until_ended`: until the run has ended and its log was closed (or is not written to any more for some seconds).
    `sleep` waits between looks, in place of a `Watch`.

    There may be no log yet. What this orch does not know comes as `Unknown`. Raises LogDamaged, LogTrouble.

    Limit: a group may be seen a moment before it is acknowledged. If at that moment the leader's host fails, or another
    leader takes over, the group may turn out to be void; it cannot be taken back, and what follows is then numbered
    like what came before: a `seq` that is not greater than the last one says so.
    """
    pace = _Pace(_Follower(directory, max(1, from_seq), files), until_ended=until_ended)
    with contextlib.ExitStack() as stack:
        if sleep is None:
            watch = Watch(directory, SOON)
            stack.callback(watch.close)
            sleep = watch.sleep
        while True:
            events = await anyio.to_thread.run_sync(pace.look)
            if events:
                yield events
            if pace.over:
                return
            if not pace.more:
                await sleep(pace.wait())


def follow_here(
    directory: Path, from_seq: int = 1, *, idle: Callable[[], bool] | None = None, files: Files = REAL
) -> Iterator[list[Event]]:
    """As `follow`, for who has nothing else to do: blocks, and costs a fraction.

    `idle` is asked each time that all has been read: does that end it?
    """
    pace = _Pace(_Follower(directory, max(1, from_seq), files), until_ended=False)
    watch = Watch(directory, SOON)
    try:
        while True:
            events = pace.look()
            if events:
                yield events
            if pace.more:
                continue
            if idle is not None and idle():
                return
            watch.wait(pace.wait())
    finally:
        watch.close()


class _Pace:
    """When to look, and when to stop. `over`: all of a run that has ended was read."""

    def __init__(self, follower: _Follower, *, until_ended: bool) -> None:
        self._follower = follower
        self._until_ended = until_ended
        self._wait = SOON
        self._idle = 0
        self._doubted = False

    def look(self) -> list[Event]:
        """What is new. Raises LogDamaged if that is damaged, seen twice."""
        try:
            events = self._follower.look()
            self._doubted = False
        except LogDamaged:
            if self._doubted:
                raise
            self._doubted, events = True, []  # a network file system may show a new length with old bytes for a moment
        if events:
            self._wait, self._idle = SOON, 0
        return events

    @property
    def more(self) -> bool:
        """Was not all read that there is?"""
        return self._follower.more

    @property
    def over(self) -> bool:
        """Has the run ended, and was all of it read?"""
        ended = self._until_ended and self._follower.ended and not self._doubted and not self.more
        return ended and (self._follower.closed or self._idle > _UNCLOSED)

    def wait(self) -> float:
        """Seconds until the next look, since there is nothing new."""
        wait = self._wait
        self._wait, self._idle = min(LATE, wait * 2), self._idle + 1
        return wait


class _Follower:
    """A position in the log: the next block is at `offset` of `span`, and its first event has the number `seq`.

    `ended`   the run has ended, as far as we have read
    `closed`  the last event that we have read closed its segment
    `more`    there is more to be read, or to be said, than the last look has given
    """

    def __init__(self, directory: Path, from_seq: int, files: Files) -> None:
        self.ended = False
        self.closed = False
        self.more = False
        self._directory = directory
        self._from_seq = from_seq
        self._files = files
        self._seen: list[int] = []
        self._span: Span | None = None
        self._offset = 0
        self._seq = 1

    def look(self) -> list[Event]:
        """What is wanted of what there is now, some megabytes at most; empty if there is nothing new."""
        while True:
            self.more = False
            if self._span is None and not self._locate():
                return []
            assert self._span is not None
            found = self._read(self._span)
            # Asked after reading: whoever claims the log later finds, and counts, what we have just read.
            if self._is_last(self._span) or not self._move(self._span):
                self._take(found)
                wanted = [event for event in found if event.seq >= self._from_seq]
                if wanted or not found:
                    self.more = bool(wanted) and (self.more or self._span.end is not None)
                    return wanted

    def _read(self, span: Span) -> list[Event]:
        events: list[Event] = []
        self._next = self._offset, self._seq
        try:
            for block in blocks(self._files, span, self._offset, self._seq):
                events += decoded(span, block)
                self._next = block.end, block.last + 1
                if block.end - self._offset >= _AT_ONCE:
                    self.more = True
                    break
        except LogDamaged:
            if not events:  # else what is good comes first, and the next look says so
                raise
            self.more = True
        return events

    def _take(self, events: list[Event]) -> None:
        self._offset, self._seq = self._next
        for event in events:
            self.closed = isinstance(event, Closed)
            if not isinstance(event, _NEUTRAL):
                self.ended = isinstance(event, Ended)

    def _is_last(self, span: Span) -> bool:
        """Is there still no segment behind this one that we do not know to be void?"""
        if span.end is not None:
            return self._offset < span.end.length
        now = epochs(self._directory, self._files)
        same = now == self._seen and now[-1] == span.epoch
        self._seen = now
        return same

    def _move(self, span: Span) -> bool:
        """Look at the log's segments again; True if our place is another one now, or ends now."""
        spans = chain(self._directory, self._files)
        here = next((k for k, s in enumerate(spans) if s.epoch == span.epoch), None)
        if here is None:  # ours was void from its beginning
            self._span = None
            self._from_seq = max(self._from_seq, span.first)
            self._locate_at(spans, span.first)
            return True
        end = spans[here].end
        if end is not None and self._offset >= end.length:
            self._span, self._offset, self._seq = spans[here + 1], 0, spans[here + 1].first
            return True
        self._span = spans[here]
        return self._span != span

    def _locate(self) -> bool:
        """Find the first event that is wanted. False if there is no log yet."""
        self._seen = epochs(self._directory, self._files)
        spans = chain(self._directory, self._files)
        if spans:
            self._locate_at(spans, self._from_seq)
        return bool(spans)

    def _locate_at(self, spans: list[Span], seq: int) -> None:
        k = max(k for k, span in enumerate(spans) if k == 0 or span.first <= seq)
        self._span = spans[k]
        self._offset, self._seq = seek(self._span, max(seq, self._span.first), self._files)
        self.ended = self._had_ended(spans[:k])

    def _had_ended(self, spans: list[Span]) -> bool:
        """Had the run ended when the last of these segments did?"""
        for span in reversed(spans):
            assert span.end is not None
            offset, seq = seek(span, span.end.seq, self._files)
            for block in reversed(list(blocks(self._files, span, offset, seq))):
                for event in reversed(decoded(span, block)):
                    if not isinstance(event, _NEUTRAL):
                        return isinstance(event, Ended)
        return False
