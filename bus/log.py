"""The log of a run: one writer an epoch, group commit, and take-over that an older writer cannot harm.

Taking over, step by step; the order is what makes it safe:

1. The segments that are there are read and verified. Damage is refused before anything is touched. (Who has read them
   up to a point just now can say so: `orch.bus.takeover` has the rules for trusted points.)
2. CLAIM: the file of the next epoch is created exclusively, empty, and its directory synced. From here on the fence
   check of every older leader fails, so that it no longer acts, whatever it may still write.
3. SCAN: the predecessor's last whole group is looked for, again. Whatever the older leader was told is durable, was so
   before the claim, and is found now. Its last group is written again and synced: what we build upon must not vanish,
   not even if an earlier sync of it failed.
4. OPEN: `opened` is written as the first line, naming the predecessor and the seq, length and crc of its end, and is
   synced. From here on, all bytes of the predecessor beyond that are void, whoever wrote them.

A claim without a whole first line is void: its maker died. The next one claims the number after it.

A commit writes everything staged as one group with one write, syncs it, and then checks that no later claim exists;
only then was it a commit. (Very many `added` events are several groups, each of which is written like this.) A failed
write or sync is final: what is on the disk is not known any more, and only the next leader, which reads it afresh, can
tell. Every later call raises the same error.

The fence check looks at directory entries. Some network file systems may keep them for a while (NFS: `acdirmax`);
a leader that is stopped and wakes up may therefore act for so long, but what it writes is void all the same.

With durability "relaxed" a commit is not synced. Nothing is lost when processes are killed. A power cut, or a crash of
the host, may take back what was committed during the last half minute or so (as long as the kernel holds data back),
and with it outcomes that were acknowledged; the log opens, cut back to the first group that is not whole.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from orch.bus.codec import CODEC, BadLine, Unknown, group_of
from orch.bus.errors import Fenced, LogTooNew, LogTrouble, damaged
from orch.bus.events import Added, Closed, Event, Opened
from orch.bus.machine import HERE, Machine
from orch.bus.places import Index, Point, line_of
from orch.bus.reader import read_spans
from orch.bus.segment import foreign, opened_file, segment_name, trouble
from orch.bus.takeover import Past, claim, rescan, survey

Durability = Literal["always", "relaxed"]

LARGE = 1024 * 1024
"""Bytes from which on a group ends where it may."""

_PORTION = 256
"""Events between which a group may end."""


class Log:
    """The one writer of a run's log, for one epoch. Made by `Log.open`.

    `epoch`     number of this leader
    `last_seq`  number of the last durable event
    `opened`    the first event of this epoch (it is durable, and not part of `history`)
    """

    opened: Opened
    _path: Path
    _next_path: Path

    def __init__(self, directory: Path, machine: Machine) -> None:
        self.directory = directory
        self.epoch = 0
        self.last_seq = 0
        self._machine = machine
        self._files = machine.files
        self._past = Past()
        self._synced = True
        self._handle: int | None = None
        self._length = 0
        self._crc = ""
        self._ahead: dict[int, bytes] = {}  # lines that were read along with the last one that was fetched
        self._index = Index(1)
        self._next = 1
        self._group = 0
        self._lines: list[bytes] = []
        self._size = 0
        self._added = False
        self._ended: list[list[bytes]] = []
        self._error: Fenced | LogTrouble | None = None
        self._committing = anyio.Lock(fast_acquire=True)  # a group commit is a pause enough

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        run: str,
        version: str = "",
        durability: Durability = "always",
        machine: Machine = HERE,
        trusted: Point | None = None,
    ) -> Log:
        """Begin a new epoch of the log in `directory` (made if there is none).

        `trusted`: what lies before this point is verified only when it is read, if the log has the point: then it is
        `trusted` of what is returned. Raises LogDamaged, LogTooNew (only `history` looks at every event's type),
        LogTrouble, Fenced.
        """
        who = machine.whoami()
        log = cls(directory, machine)
        opened = Opened(
            run=run,
            host=who.host,
            pid=who.pid,
            boot=who.boot,
            user=who.user,
            version=version or who.version,
            durability=durability,
        )
        await machine.offload(log._take_over, opened, trusted)
        return log

    def _take_over(self, opened: Opened, trusted: Point | None) -> None:
        with trouble("make the directory of", self.directory):
            self._files.make_dir(self.directory)
        before = survey(self.directory, self._files, trusted)
        for span in before.spans:
            if span.opened.run != opened.run:  # a copy of another run's log leads to that one's attempts and files
                raise foreign(span, opened.run)
        self.epoch, self._handle = claim(self.directory, self._files)
        try:
            self._begin(opened, rescan(self.directory, before, self._files))
        except BaseException:  # nobody else will close it, whatever went wrong
            self._files.close(self._handle)
            raise

    def _begin(self, opened: Opened, past: Past) -> None:
        self._path = self.directory / segment_name(self.epoch)
        self._next_path = self.directory / segment_name(self.epoch + 1)
        self._past = past
        self.last_seq = past.seq
        self._next = past.seq + 1
        self._index = Index(self._next)
        self.opened = msgspec.structs.replace(opened, after=past.end)
        self.stage([self.opened])
        self._write(self._take())
        self._synced = opened.durability == "always"

    @property
    def trusted(self) -> Point | None:
        """The point that was given to `open`, if the log has it."""
        return self._past.trusted

    async def point(self) -> Point:
        """The place behind the last durable event, for who opens this log again. Raises Fenced, LogTrouble."""
        async with self._committing:
            self._must_work()
            if not self._synced:
                await self._machine.offload(self._sync)
            return self.end

    @property
    def end(self) -> Point:
        """The place behind the last event that was committed; durable if `durability` is "always"."""
        return Point(segment=self._path.name, seq=self.last_seq, length=self._length, crc=self._crc)

    def history(self, after: Point | None = None) -> Iterator[Event]:
        """Every event before this epoch, in order, or those behind a point that is `trusted`.

        Raises LogDamaged, LogTrouble, and LogTooNew at an event that this orch does not know.
        """
        for event in read_spans(self._past.spans, self._files, from_seq=after.seq + 1 if after else 1):
            if isinstance(event, Unknown):
                raise LogTooNew(
                    f"{self.directory}: event {event.seq} ({event.kind}, version {event.v}) is unknown to this version "
                    "of orch; carry the run on with the one that wrote it, or a newer one"
                )
            yield event

    def stage(self, events: Sequence[Event]) -> list[Event]:
        """Number and date new events, to be written with the next `commit`; gives back the same objects, stamped.

        What is staged until then is one group, but for `added` events, which count for nothing until a later event
        counts them: where very many of them come, the group ends, and another one begins.

        Raises ValueError if one of them cannot be written, and then takes none of them; Fenced or LogTrouble if the
        log has failed before.
        """
        self._must_work()
        bodies = CODEC.encode(events)
        time = self._machine.clock()
        for k in range(0, len(events), _PORTION):
            self._stage(events[k : k + _PORTION], bodies[k : k + _PORTION], time)
        return list(events)

    def _stage(self, events: Sequence[Event], bodies: list[bytes], time: str) -> None:
        if self._size >= LARGE and self._added and isinstance(events[0], Added):
            self._end_group()
        self._group = self._group or self._next
        lines = CODEC.open_lines(bodies, self._next, CODEC.envelope(time, self.epoch, self._group))
        CODEC.stamp(events, self._next, time, self.epoch, self._group)
        self._lines += lines
        self._size += sum(map(len, lines))
        self._added = isinstance(events[-1], Added)
        self._next += len(events)

    def _end_group(self) -> None:
        self._ended.append(self._lines)
        self._lines, self._size, self._group = [], 0, 0

    async def commit(self) -> None:
        """Make everything staged durable, as one group (see `stage`), while the loop goes on.

        Raises LogTrouble if it cannot be written, Fenced if a later leader has taken over. Both are final.
        """
        with anyio.CancelScope(shield=True):
            async with self._committing:
                self._must_work()
                if not self._lines:
                    return
                await self._machine.offload(self._write, self._take())

    async def append(self, events: Sequence[Event]) -> list[Event]:
        """`stage` and `commit`."""
        staged = self.stage(events)
        await self.commit()
        return staged

    async def append_many(self, events: Iterable[Event]) -> AsyncIterator[list[Event]]:
        """`stage` and `commit` events as they come, in groups of not much more than `LARGE` bytes; gives each group.

        For very many, of which none counts before the last one is there. Raises as those do.
        """
        staged: list[Event] = []
        source = iter(events)
        while portion := list(itertools.islice(source, _PORTION)):
            staged += self.stage(portion)
            if self._size >= LARGE:
                await self.commit()
                yield staged
                staged = []
        if staged:
            await self.commit()
            yield staged

    async def check(self) -> None:
        """For a writer that has nothing to write: does it still lead?

        Raises Fenced if a later leader has taken over, which is final; LogTrouble if that cannot be found out now.
        """
        async with self._committing:
            self._must_work()
            await self._machine.offload(self._look)

    def fetch(self, seq: int) -> Event:
        """Read a durable event of this run again, from disk. Raises LookupError if there is no such event."""
        if not 1 <= seq <= self.last_seq:
            raise LookupError(f"{self.directory}: there is no event {seq}; the last one is {self.last_seq}")
        if seq > self._past.seq:
            return self._fetch(self._path, self._index, self._length, seq)
        span, index = self._past.find(seq)
        assert span.end is not None
        return self._fetch(span.path, index, span.end.length, seq)

    async def close(self, reason: str = "") -> None:
        """Write `closed` as the last line (with what is still staged), and let go of the file. Again: does nothing.

        A log that has failed is only let go of. Without a `reason` nothing is written: the writer has staged `closed`
        itself, in the group of its last events.
        """
        if self._handle is None:
            return
        try:
            if self._error is None:
                with anyio.CancelScope(shield=True):
                    await self.append([Closed(reason=reason)] if reason else [])
                    if not self._synced:
                        await self._machine.offload(self._sync)
        finally:
            handle, self._handle = self._handle, None
            self._error = self._error or LogTrouble(f"the log {self._path} is closed")
            self._files.close(handle)

    def _must_work(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self) -> list[list[bytes]]:
        """The open lines of the groups that now end."""
        self._end_group()
        groups, self._ended = self._ended, []
        return groups

    def _write(self, groups: list[list[bytes]]) -> None:
        """Write groups and make each durable before the next. In a thread; nobody else uses the file meanwhile."""
        for lines in groups:
            self._write_group(group_of(lines), len(lines))

    def _write_group(self, data: bytes, count: int) -> None:
        assert self._handle is not None
        try:
            with trouble("write", self._path):
                self._files.write(self._handle, data)
                if self._synced:
                    self._files.sync(self._handle)
                fenced = self._files.exists(self._next_path)
        except LogTrouble as e:
            self._error = e
            raise
        self._must_lead(fenced=fenced)
        self._index.add(self.last_seq + 1, self._length)
        self._length += len(data)
        self.last_seq += count
        self._crc = data[-11:-3].decode("ascii")

    def _must_lead(self, *, fenced: bool) -> None:
        if fenced:
            self._error = Fenced(
                f"{self.directory}: another leader has taken over (epoch {self.epoch + 1}); this one (epoch "
                f"{self.epoch}) has stopped, and nothing that it did since then counts"
            )
            raise self._error

    def _look(self) -> None:
        with trouble("look at", self._path):
            fenced = self._files.exists(self._next_path)
        self._must_lead(fenced=fenced)

    def _sync(self) -> None:
        assert self._handle is not None
        with trouble("write", self._path):
            self._files.sync(self._handle)

    def _fetch(self, path: Path, index: Index, length: int, seq: int) -> Event:
        line = self._ahead.get(seq)
        if line is not None and line.startswith(b'{"seq":%d,' % seq):
            with contextlib.suppress(BadLine):  # it is read again, and complained about
                return CODEC.decode(line)
        with trouble("read", path), opened_file(path, self._files) as handle:
            found = line_of(self._files, handle, seq, index, length)
        if found is None:
            raise damaged(path, index.around(seq, length)[0].offset, f"event {seq} is missing")
        self._ahead = dict(enumerate(found[2].split(b"\n")[:-1], seq + 1))
        try:
            return CODEC.decode(found[1])
        except BadLine as e:
            raise damaged(path, found[0], f"event {seq} cannot be read: {e}") from e
