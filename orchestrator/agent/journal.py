"""The agent's journal: which attempts it took on, and the outcomes that no leader has taken in yet.

A file of frames: length, CRC-32, msgpack record. What is staged during a turn of the agent's loop is written at once.
A torn tail, as a crash leaves it, is cut off when the journal is opened. It is not synced as long as a leader listens,
whose log makes an outcome durable; when none does, it is.

When nothing is outstanding, the file is emptied; when it has grown too long, or a sync has failed, it is written anew
with what is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from orch.agent.storage import Storage
from orch.attempt import Outcome

BOUND = 64 * 1024 * 1024
"""Length in bytes at which the journal is written anew."""


class Booted(msgspec.Struct, frozen=True, tag="booted"):
    """An agent opened the journal, after the machine's start `boot`."""

    boot: str
    pid: int


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """Attempts were taken on. `after`: of a link of a chain, what it runs in the place of."""

    run: str
    epoch: int
    keys: list[str]
    after: dict[str, str] = {}


class Begun(msgspec.Struct, frozen=True, tag="started"):
    """An attempt runs as process `pid`, which was started before `since` (seconds since the machine's start)."""

    key: str
    pid: int
    since: float


class Ended(msgspec.Struct, frozen=True, tag="outcome"):
    """An attempt is over."""

    outcome: Outcome


class Acknowledged(msgspec.Struct, frozen=True, tag="acknowledged"):
    """A leader has taken these in, or wants nothing of them."""

    keys: list[str]


Record = Booted | Accepted | Begun | Ended | Acknowledged

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Entry(msgspec.Struct):
    """What the journal knows of one attempt that has not been acknowledged."""

    run: str
    epoch: int
    after: str = ""
    pid: int = 0
    since: float = 0.0
    outcome: Outcome | None = None


class Journal:
    """Opened by the agent alone, under its lock. `outstanding` is what an earlier agent left."""

    def __init__(self, storage: Storage, boot: str, pid: int) -> None:
        self._storage = storage
        self._opened = Booted(boot=boot, pid=pid)
        self._staged: list[bytes] = []
        self._doubtful = False
        self.outstanding: dict[str, Entry] = {}
        self.boot = ""
        self._bound = BOUND
        self._length = self._load()
        self.stage(self._opened)

    def _load(self) -> int:
        """Read what is there; the length of what is whole."""
        data = self._storage.load()
        at = 0
        while (record := _next(data, at)) is not None:
            at += 8 + int.from_bytes(data[at : at + 4], "big")
            self._apply(record)
        self._storage.truncate(at)
        return at

    def _apply(self, record: Record) -> None:
        match record:
            case Booted():
                self.boot = record.boot
            case Accepted():
                for key in record.keys:
                    self.outstanding[key] = Entry(record.run, record.epoch, record.after.get(key, ""))
            case Begun():
                entry = self.outstanding.get(record.key)
                if entry is not None:
                    entry.pid, entry.since = record.pid, record.since
            case Ended():
                entry = self.outstanding.get(record.outcome.key)
                if entry is not None:
                    entry.outcome = record.outcome
            case Acknowledged():
                for key in record.keys:
                    self.outstanding.pop(key, None)

    def stage(self, record: Record) -> None:
        """Have a record written by the next `write`."""
        self._staged.append(_framed(record))
        if not isinstance(record, Booted):
            self._apply(record)

    def write(self, *, sync: bool = False) -> None:
        """Write what is staged. Raises `OSError`; what could not be written stays staged."""
        if self._doubtful:
            self._rewrite()
            return
        self._append()
        if sync:
            self._sync()
        if self._length > self._bound:
            self._rewrite()

    def _append(self) -> None:
        data = b"".join(self._staged)
        self._staged = [data] if data else []
        while self._staged:
            written = self._storage.append(data)
            self._length += written
            data = data[written:]
            self._staged = [data] if data else []

    def _sync(self) -> None:
        try:
            self._storage.sync()
        except OSError:  # what it has not kept is not reported again: a second sync would say that all is well
            self._doubtful = True
            raise

    def settle(self, at_least: int = 0) -> None:
        """Empty the file if nothing is outstanding and it is longer than `at_least`. Raises `OSError`."""
        if not self.outstanding and self._length > at_least:
            self._storage.truncate(0)
            self._staged = []
            self._length = 0
            self.stage(self._opened)

    def _rewrite(self) -> None:
        """Write a new file with what is outstanding, and no more. Raises `OSError`, and nothing has changed then."""
        data = b"".join(_framed(record) for record in self._all())
        self._storage.replace(data)
        self._doubtful = False
        self._staged = []
        self._length = len(data)
        self._bound = max(BOUND, 2 * self._length)

    def _all(self) -> Iterator[Record]:
        yield self._opened
        for key, entry in self.outstanding.items():
            yield Accepted(entry.run, entry.epoch, [key], {key: entry.after} if entry.after else {})
            if entry.pid:
                yield Begun(key=key, pid=entry.pid, since=entry.since)
            if entry.outcome is not None:
                yield Ended(outcome=entry.outcome)

    def close(self) -> None:
        """Close the file."""
        self._storage.close()


def _framed(record: Record) -> bytes:
    data = _encode(record)
    return len(data).to_bytes(4, "big") + zlib.crc32(data).to_bytes(4, "big") + data


def _next(data: bytes, at: int) -> Record | None:
    """The record at `at`; None if there is no whole one."""
    end = at + 8 + int.from_bytes(data[at : at + 4], "big")
    if at + 8 > len(data) or end > len(data):
        return None
    body = data[at + 8 : end]
    if zlib.crc32(body) != int.from_bytes(data[at + 4 : at + 8], "big"):
        return None
    try:
        record: Record = _decode(body)
    except (ValueError, RecursionError):
        return None
    return record
