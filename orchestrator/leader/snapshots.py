"""`runs/RUN/snapshot`: the whole state of a long run, so that it need not be folded anew to be carried on.

It counts for nothing by itself: it can be deleted at any time, and is then made again. It is taken for what it says
only if it was made by the very code that reads it, of this run, is whole, and names a point of the log that stands
there; else the log is folded from its beginning. It is written while the run goes on, beside the turns of the leader,
each time that the log has become a good deal longer.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from orch.bus import events
from orch.bus.log import Log
from orch.bus.places import Point
from orch.bus.reader import point_behind
from orch.history import fold_quickly
from orch.state import fold
from orch.state.image import from_image, image
from orch.state.model import State
from orch.store.private import open_private

NAME = "snapshot"

LONG = 100_000
"""Events. A log, or the rest of one, that has fewer is folded in less time than anybody notices."""

SHARE = 8
"""One is made when the log has become longer by one part in so many: all of them together are some times the last."""


class Head(msgspec.Struct, frozen=True):
    """The first line. `size` and `crc` (CRC-32) are those of all that follows it; `code`: who has made it."""

    run: str
    code: str
    point: Point
    size: int
    crc: int


def _sources() -> list[Path]:
    return [*sorted(Path(fold.__file__).parent.glob("*.py")), Path(events.__file__)]


def _looks() -> list[tuple[int, int, int]]:
    """By which it is seen that a file of ours was replaced."""
    return [(found.st_ino, found.st_size, found.st_mtime_ns) for found in map(os.stat, _sources())]


_LOADED = _looks()
"""As the files were when this process has read its code from them, or a moment later."""


@functools.cache
def code() -> str:
    """The digest of the code that folds: what another one has made of a log is not to be trusted.

    Empty, which nothing is equal to, where the files are not those any more that this process runs: an upgrade.
    """
    digest = hashlib.sha256()
    try:
        for file in _sources():
            digest.update(file.read_bytes())
        return digest.hexdigest() if _looks() == _LOADED else ""
    except OSError:  # one has gone
        return ""


def write(log: Path, run: str, point: Point, pieces: list[bytes]) -> None:
    """Put a snapshot beside the log, in the place of what is there. Raises `OSError`."""
    head = Head(
        run,
        code(),
        point,
        sum(map(len, pieces)),
        functools.reduce(lambda crc, piece: zlib.crc32(piece, crc), pieces, 0),
    )
    path = f"{log.parent}/{NAME}"
    try:
        with open(f"{path}.new", "wb", opener=open_private) as file:
            file.write(msgspec.json.encode(head) + b"\n")
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)
    except OSError:  # a full disk, mostly: the log needs the room
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.new")
        raise


def read(log: Path, run: str) -> tuple[State, Point] | None:
    """What is there, if it can be true of this log: whether the point stands there is for the log to say."""
    try:
        with open(log.parent / NAME, "rb") as file:  # not mapped: a file that shrinks meanwhile would kill us
            head = msgspec.json.decode(file.readline(), type=Head)
            if (head.run, head.code) != (run, code()) or not head.code:
                return None
            body = memoryview(file.read())
        good = head.size == len(body) and head.crc == zlib.crc32(body)
        state = from_image(body) if good else None
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the log is what counts
        return None
    return (state, head.point) if state is not None and state.seq == head.point.seq else None


def folded(log: Path, run: str) -> State:
    """The state of a run: of its snapshot, if it has a good one, and of what has come since; else of the whole log."""
    taken = read(log, run)
    if taken is not None:
        state, point = taken
        with contextlib.suppress(Exception):  # it was no good one; what is wrong with the log is found below
            if point_behind(log, point.seq) == point:
                return fold_quickly(log, state=state)
    return fold_quickly(log)


class Snapshots:
    """Makes those of one run. Where that cannot be done, nothing is said: whoever carries on folds the log."""

    def __init__(self, log: Log, state: State, run: str) -> None:
        self._log = log
        self._state = state
        self._run = run
        self._last = state.seq
        self._made: tuple[Point, list[bytes]] | None = None
        self._wanted = anyio.Event()

    def committed(self) -> None:
        """All that the state holds is in the log, and nothing else."""
        more = self._state.seq - self._last
        if more >= max(LONG, self._last // SHARE) and self._made is None and code():
            self._last = self._state.seq
            self._made = self._log.end, image(self._state)
            self._wanted.set()

    @property
    def busy(self) -> bool:
        """Is one made, and not written yet?"""
        return self._made is not None

    async def keep(self, offload: Callable[..., Awaitable[Any]]) -> None:
        """For ever: write those that have been made."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            await self._log.point()  # what a snapshot builds upon is durable
            await offload(self._write)

    def _write(self) -> None:
        if self._made is not None:
            with contextlib.suppress(OSError):  # a full disk, mostly
                write(self._log.directory, self._run, *self._made)
            self._made = None

    @property
    def is_due(self) -> bool:
        """The log is closed in order: has it become longer, and will it go on?"""
        longer = self._state.seq - self._last >= LONG
        return bool(longer and code() and not self._state.outcome and self._state.seq == self._log.last_seq)

    def last(self) -> None:
        """One more, where one is due."""
        if self.is_due:
            self._made = self._log.end, image(self._state)
            self._write()
