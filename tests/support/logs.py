"""Logs for tests: a clock that counts, and small logs written in one go."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from orch.bus import events as ev
from orch.bus.codec import CODEC, finish
from orch.bus.files import REAL, Files
from orch.bus.groups import ends_group
from orch.bus.identity import Identity
from orch.bus.log import Durability, Log
from orch.bus.machine import Machine
from orch.bus.places import Point
from orch.bus.scan import blocks
from orch.bus.segment import chain

WHO = Identity(host="here", pid=7, boot="b1", user="someone", version="0.1")

LOG = Path("/log")
"""The directory of a log on a `Disk`."""


def clock() -> Callable[[], str]:
    """A clock that goes on by a microsecond each time it is looked at."""
    ticks = iter(range(1_000_000))
    return lambda: f"2030-01-02T03:04:05.{next(ticks):06d}Z"


def segment(directory: Path, epoch: int) -> Path:
    """The file of an epoch."""
    return directory / f"{epoch:06d}.events.jsonl"


def machine(files: Files = REAL) -> Machine:
    """One whose clock counts, and on which everybody is `WHO`."""
    return Machine(files=files, clock=clock(), whoami=lambda: WHO)


async def open_log(
    directory: Path, files: Files = REAL, durability: Durability = "always", trusted: Point | None = None
) -> Log:
    """A new epoch."""
    return await Log.open(directory, run="r1", durability=durability, machine=machine(files), trusted=trusted)


def points(directory: Path, files: Files = REAL) -> list[Point]:
    """The places behind all whole groups of a log."""
    found = []
    for span in chain(directory, files):
        offset = 0
        for block in blocks(files, span):
            for line in block.data.splitlines(keepends=True):
                offset += len(line)
                if ends_group(line[:-1]):
                    event = CODEC.decode(line)
                    found.append(Point(span.path.name, event.seq, offset, line[-11:-3].decode()))
    return found


def said(text: str) -> ev.Warned:
    """An event."""
    return ev.Warned(message=text)


async def write_log(
    directory: Path, groups: Sequence[int], *, files: Files = REAL, closed: bool = False, text: str = "e"
) -> Log:
    """A new epoch, with groups of these sizes."""
    log = await open_log(directory, files)
    for size in groups:
        first = log.last_seq + 1
        await log.append([said(f"{text}{first + k}") for k in range(size)])
    if closed:
        await log.close("ended")
    return log


def without_sums(data: bytes) -> bytes:
    """A segment as it was written before groups had sums."""
    bare = re.sub(rb',"sum":"[0-9a-f]{8}"(,"end":true),"crc":"[0-9a-f]{8}"', rb"\1", data)
    lines = zip(bare.splitlines(), data.splitlines(keepends=True), strict=True)
    return b"".join([line if b'"crc"' in short else finish(short[:-1], end=False) for short, line in lines])


def texts(events: Sequence[ev.Event]) -> list[str]:
    """What the `said` events among these say, and the types of the others."""
    return [event.message if isinstance(event, ev.Warned) else type(event).__name__ for event in events]
