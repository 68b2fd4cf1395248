"""The log of a run: one writer an epoch, group commit, and take-over that an older writer cannot harm.

Taking over, step by step; the order is what makes it safe:

1. The segments that are there are read and verified. Damage is refused before anything is touched.
2. CLAIM: the file of the next epoch is created exclusively, empty, and its directory synced. From here on the fence
   check of every older leader fails, so that it no longer acts, whatever it may still write.
3. SCAN: the predecessor's last whole group is looked for, again. Whatever the older leader was told is durable, was so
   before the claim, and is found now. Its last group is written again and synced: what we build upon must not vanish,
   not even if an earlier sync of it failed.
4. OPEN: `opened` is written as the first line, naming the predecessor and the seq, length and crc of its end, and is
   synced. From here on, all bytes of the predecessor beyond that are void, whoever wrote them.

A claim without a whole first line is void: its maker died. The next one claims the number after it.

A commit writes everything staged as one group with one write, syncs it, and then checks that no later claim exists;
only then was it a commit. A failed write or sync is final: what is on the disk is not known any more, and only the next
leader, which reads it afresh, can tell. Every later call raises the same error.

The fence check looks at directory entries. Some network file systems may keep them for a while (NFS: `acdirmax`);
a leader that is stopped and wakes up may therefore act for so long, but what it writes is void all the same.

With durability "relaxed" a commit is not synced. Nothing is lost when processes are killed. A power cut, or a crash of
the host, may take back what was committed during the last half minute or so (as long as the kernel holds data back),
and with it outcomes that were acknowledged; the log opens, cut back to the first group that is not whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from orch.bus.codec import CODEC, Unknown, finish
from orch.bus.errors import Fenced, LogDamaged, LogTooNew, LogTrouble
from orch.bus.events import Closed, Event, Opened
from orch.bus.machine import HERE, Machine
from orch.bus.reader import read_spans
from orch.bus.scan import Index
from orch.bus.segment import foreign, opened_file, segment_name, trouble
from orch.bus.takeover import Past, claim, rescan, survey

Durability = Literal["always", "relaxed"]

_FETCH = 16 * 1024
"""Bytes read at once when a single event is looked for."""


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
        self._index = Index()
        self._next = 1
        self._group = 0
        self._lines: list[bytes] = []
        self._unfinished = b""
        self._error: Fenced | LogTrouble | None = None
        self._committing = anyio.Lock()

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        run: str,
        version: str = "",
        durability: Durability = "always",
        machine: Machine = HERE,
    ) -> Log:
        """Begin a new epoch of the log in `directory` (made if there is none).

        Raises LogDamaged, LogTooNew (only `history` looks at every event's type), LogTrouble, Fenced.
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
        await machine.offload(log._take_over, opened)
        return log

    def _take_over(self, opened: Opened) -> None:
        with trouble("make the directory of", self.directory):
            self._files.make_dir(self.directory)
        before = survey(self.directory, self._files)
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
        self.opened = msgspec.structs.replace(opened, after=past.end)
        self.stage([self.opened])
        self._write(self._take())
        self._synced = opened.durability == "always"

    def history(self) -> Iterator[Event]:
        """Every event before this epoch, in order. Raises LogTooNew at one that this orch does not know."""
        for event in read_spans(self._past.spans, self._files):
            if isinstance(event, Unknown):
                raise LogTooNew(
                    f"{self.directory}: event {event.seq} ({event.kind}, version {event.v}) is unknown to this version "
                    "of orch; carry the run on with the one that wrote it, or a newer one"
                )
            yield event

    def stage(self, events: Sequence[Event]) -> list[Event]:
        """Number and date new events, to be written with the next `commit`; gives back the same objects, stamped.

        Raises ValueError if one of them cannot be written, and then takes none of them; Fenced or LogTrouble if the
        log has failed before.
        """
        self._must_work()
        seq = self._next
        group = self._group or seq
        time = self._machine.clock()
        middle = CODEC.envelope(time, self.epoch, group)
        lines = [CODEC.open_line(event, seq + k, middle) for k, event in enumerate(events)]
        if not lines:
            return []
        for k, event in enumerate(events):
            CODEC.stamp(event, seq + k, time, self.epoch, group)
        if self._unfinished:
            self._lines.append(finish(self._unfinished, end=False))
        self._unfinished = lines.pop()  # `commit` knows whether it is the last one of the group
        self._lines.extend([finish(line, end=False) for line in lines])
        self._group = group
        self._next = seq + len(events)
        return list(events)

    async def commit(self) -> None:
        """Make everything staged durable, as one group, while the loop goes on.

        Raises LogTrouble if it cannot be written, Fenced if a later leader has taken over. Both are final.
        """
        with anyio.CancelScope(shield=True):
            async with self._committing:
                self._must_work()
                if not self._unfinished:
                    return
                await self._machine.offload(self._write, self._take())

    async def append(self, events: Sequence[Event]) -> list[Event]:
        """`stage` and `commit`."""
        staged = self.stage(events)
        await self.commit()
        return staged

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
            return self._fetch(self._path, self._index, seq)
        span, index = self._past.find(seq)
        return self._fetch(span.path, index, seq)

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

    def _take(self) -> list[bytes]:
        """The lines of the group that now ends."""
        lines = [*self._lines, finish(self._unfinished, end=True)]
        self._lines, self._unfinished, self._group = [], b"", 0
        return lines

    def _write(self, lines: list[bytes]) -> None:
        """Write a group and make it durable. In a thread; nobody else uses the file meanwhile."""
        assert self._handle is not None
        data = b"".join(lines)
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
        self._index.add(self.last_seq + 1, self._length, [len(line) for line in lines])
        self._length += len(data)
        self.last_seq += len(lines)

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

    def _fetch(self, path: Path, index: Index, seq: int) -> Event:
        at, offset = index.before(seq)
        with trouble("read", path), opened_file(path, self._files) as handle:
            data = b""
            while True:
                more = self._files.read(handle, offset + len(data), max(_FETCH, len(data)))
                data += more
                lines = data.split(b"\n", seq - at + 1)
                if len(lines) > seq - at + 1:
                    break
                if not more:
                    raise LogDamaged(f"{path}: damaged at byte {offset}: event {seq} is missing")
        event = CODEC.decode(lines[seq - at])
        if event.seq != seq:
            raise LogDamaged(f"{path}: damaged at byte {offset}: event {seq} is missing")
        return event
