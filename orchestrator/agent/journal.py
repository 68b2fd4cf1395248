"""The agent's journal: which attempts it took on, and the outcomes that no leader has taken in yet.

A file of frames: length, CRC-32, msgpack record. What is staged during a turn of the agent's loop is written at once.
A torn tail, as a crash leaves it, is cut off when the journal is opened. It is not synced as long as a leader listens,
whose log makes an outcome durable; when none does, it is.

When nothing is outstanding, the file is emptied; when it has grown too long, it is written anew with what is.
"""

from __future__ import annotations

import os
import zlib

import msgspec

from orch.attempt import Outcome

BOUND = 64 * 1024 * 1024
"""Length in bytes at which the journal is written anew."""


class Booted(msgspec.Struct, frozen=True, tag="booted"):
    """An agent opened the journal, after the machine's start `boot`."""

    boot: str
    pid: int


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """Attempts were taken on."""

    run: str
    epoch: int
    keys: list[str]


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
    pid: int = 0
    since: float = 0.0
    outcome: Outcome | None = None


class Journal:
    """Opened by the agent alone, under its lock. `outstanding` is what an earlier agent left."""

    def __init__(self, path: str, boot: str) -> None:
        self._path = path
        self._boot = boot
        self._staged: list[bytes] = []
        self.outstanding: dict[str, Entry] = {}
        self.boot = ""
        self._bound = BOUND
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._length = self._load()
        self.stage(Booted(boot=boot, pid=os.getpid()))

    def _load(self) -> int:
        """Read what is there; the length of what is whole."""
        with open(self._path, "rb") as file:
            data = file.read()
        at = 0
        while (record := _next(data, at)) is not None:
            at += 8 + int.from_bytes(data[at : at + 4], "big")
            self._apply(record)
        os.ftruncate(self._file, at)
        os.lseek(self._file, at, os.SEEK_SET)
        return at

    def _apply(self, record: Record) -> None:
        match record:
            case Booted():
                self.boot = record.boot
            case Accepted():
                for key in record.keys:
                    self.outstanding[key] = Entry(run=record.run, epoch=record.epoch)
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
        data = _encode(record)
        self._staged += (len(data).to_bytes(4, "big"), zlib.crc32(data).to_bytes(4, "big"), data)
        if not isinstance(record, Booted):
            self._apply(record)

    def write(self, *, sync: bool = False) -> None:
        """Write what is staged. Raises `OSError`; what could not be written stays staged."""
        if self._staged:
            data = b"".join(self._staged)
            try:
                written = os.write(self._file, data)
            except OSError:
                self._staged = [data]
                raise
            self._length += written
            self._staged = [data[written:]] if written < len(data) else []
            if self._staged:
                self.write()
        if sync:
            os.fdatasync(self._file)
        if self._length > self._bound:
            self._rewrite()

    def settle(self, at_least: int = 0) -> None:
        """Empty the file if nothing is outstanding and it is longer than `at_least`. Raises `OSError`."""
        if not self.outstanding and self._length > at_least:
            self._staged = []
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._length = 0
            self.stage(Booted(boot=self._boot, pid=os.getpid()))

    def _rewrite(self) -> None:
        """Write a new file with what is outstanding, and no more."""
        self._staged = []
        outstanding, self.outstanding = self.outstanding, {}
        self.stage(Booted(boot=self._boot, pid=os.getpid()))
        for key, entry in outstanding.items():
            self.stage(Accepted(run=entry.run, epoch=entry.epoch, keys=[key]))
            if entry.pid:
                self.stage(Begun(key=key, pid=entry.pid, since=entry.since))
            if entry.outcome is not None:
                self.stage(Ended(outcome=entry.outcome))
        data = b"".join(self._staged)
        path = f"{self._path}.new"
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(path, self._path)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        os.lseek(self._file, 0, os.SEEK_END)
        self._staged = []
        self._length = len(data)
        self._bound = max(BOUND, 2 * self._length)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


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
    except msgspec.DecodeError:
        return None
    return record
