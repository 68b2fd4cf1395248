"""A log whose bytes have gone wrong, a hundred thousand times over: what is read is what was written, or is refused.

Each day a quarter of that, and nightly all.

What cannot be told, and is therefore allowed:

- The tail of the last segment may be missing: a cut, or changes in the last group alone, look like a crash. Then no
  line of a later group may be left in that segment (`relaxed`: it may).
- Where the last segment is without a whole first line, and nothing follows there, it looks like the claim of a leader
  that died at once. Then its predecessor is the last one, with what was void in it.
- A whole line that stood in another file, and was put in the place of the line with the same number. Its crc is
  right. The verification still sees that it is of another epoch or group.

Anything else must be refused. A mutation that changes nothing that counts (void bytes, dead claims) must not be.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from support.disk import Disk
from support.kills import NIGHTLY
from support.logs import LOG, WHO, clock, open_log, points, said, segment, without_sums, write_log
from support.mutations import ALONE, WITH_OTHERS, mutated

from orch.bus import places
from orch.bus.codec import CODEC
from orch.bus.errors import Fenced, LogDamaged
from orch.bus.events import Event
from orch.bus.log import Log
from orch.bus.machine import Machine
from orch.bus.places import Point
from orch.bus.reader import read
from orch.bus.segment import chain
from orch.bus.verify import Verification

CHUNKS = 20
SPLICED = 5
"""Chunks of mutations by other files."""
TRUSTING = 2
"""Chunks of mutations of logs that are opened behind trusted points."""
EACH = 4_000 if NIGHTLY else 1_000
OPENED = 3
"""Every so many are opened by a new leader, too: that reads all of it three times, in the same way."""
MOST_READS = 100
"""Of a log of some hundred bytes; more would mean that the reader goes round in circles."""

Files = dict[Path, bytes]


async def inline(function: Any, *args: Any) -> Any:
    """`Machine.offload` without threads."""
    return function(*args)


async def written(shape: str) -> Files:
    """A log: one segment (open, closed, relaxed), two, of which the first has void bytes, or all that there can be.

    "older": with groups that have no sums.
    """
    disk = Disk()
    if shape == "older":  # each one before the next, which says where that one ends
        for groups in ([2, 1, 3], [2, 1]):
            log = await write_log(LOG, groups, files=disk, text=shape)
            path = segment(LOG, log.epoch)
            disk.put(path, without_sums(disk.get(path)))
        return contents(disk)
    if shape == "relaxed":
        log = await open_log(LOG, disk, "relaxed")
        for k in range(4):
            await log.append([said(f"{shape}{k}")])
        return contents(disk)
    old = await write_log(LOG, [2, 1, 3], files=disk, closed=shape in ("closed", "many"), text=shape)
    if shape == "many":
        beaten = disk_of(contents(disk))
        await write_log(LOG, [2], files=beaten, text="beaten")
        disk.put(segment(LOG, 2), b"")
        old = await write_log(LOG, [3], files=disk, text="mid")
        disk.put(
            segment(LOG, 2), beaten.get(segment(LOG, 2))
        )  # claimed before 3 was, opened after: nothing leads to it
        disk.put(segment(LOG, 4), b"")
    if shape in ("late", "many"):
        await write_log(LOG, [2, 1], files=disk, text="new", closed=shape == "many")
        with pytest.raises(Fenced):
            await old.append([said("too late"), said("also")])
    if shape == "many":
        disk.put(segment(LOG, 6), disk.get(segment(LOG, 5))[:50])
    return contents(disk)


def contents(disk: Disk) -> Files:
    """All files."""
    return {path: bytes(entry.data) for path, entry in disk.files.items()}


def disk_of(files: Files) -> Disk:
    """A disk with these."""
    disk = Disk()
    for path, data in files.items():
        disk.put(path, data)
    return disk


class Original:
    """A log that is whole, and all that may be made of it."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.paths = sorted(files)
        self.relaxed = b'"durability":"relaxed"' in files[self.paths[0]]
        self.spans = chain(LOG, disk_of(files))
        self.points = points(LOG, disk_of(files))
        self.events = list(read(LOG, files=disk_of(files)))
        self.worlds = [self._up_to(path) for path in self.paths]
        self.lines = {path: data.splitlines(keepends=True) for path, data in files.items()}
        self.first_lines = {path: lines[0] for path, lines in self.lines.items() if lines and lines[0].endswith(b"\n")}
        every = (line for lines in self.lines.values() for line in lines if line.endswith(b"\n"))
        self.at: dict[int, list[Event]] = {}
        for event in map(CODEC.decode, every):
            self.at.setdefault(event.seq, []).append(event)

    def _up_to(self, last: Path) -> list[Event]:
        """What is read if this segment is the last that there is."""
        return list(read(LOG, files=disk_of({path: data for path, data in self.files.items() if path <= last})))

    def counts(self, path: Path, data: bytes) -> bool:
        """Have bytes that count changed, if the file is now `data`?"""
        span = next((span for span in self.spans if span.path == path), None)
        if span is None:
            return False
        end = span.end.length if span.end else max(len(data), len(self.files[path]))
        return data[:end] != self.files[path][:end]

    def lost(self, events: list[Event], path: Path, data: bytes) -> str:
        """What shows that more was written than these events, if the file is now `data`? Empty: nothing does."""
        last = segment(LOG, events[-1].epoch) if events else Path()
        for above in self.paths:
            text = data if above == path else self.files[above]
            if above > last and above in self.first_lines:
                if text.startswith(self.first_lines[above]):
                    return f"{above} has its first line"
                if any(line in text for line in self.lines[above][1:]):
                    return f"{above} has lines"
        if last == path and not self.relaxed:
            gone = [line for line in self.lines[path] if CODEC.decode(line).seq > events[-1].seq]
            torn = CODEC.decode(gone[0]).group if gone else 0
            return "".join(f"{line!r} is there" for line in gone if CODEC.decode(line).group > torn and line in data)
        return ""


@pytest.fixture(scope="module")
def originals() -> list[Original]:
    """One of each shape."""
    return [Original(anyio.run(written, shape)) for shape in ("open", "closed", "relaxed", "late", "older", "many")]


class Case(NamedTuple):
    """What a failure shows: a file, and what it had become."""

    chunk: int
    number: int
    path: Path
    data: bytes


def machine(disk: Disk) -> Machine:
    """One without threads."""
    return Machine(files=disk, clock=clock(), whoami=lambda: WHO, offload=inline)


def bounded(disk: Disk) -> Disk:
    """One that refuses to be read for ever."""
    left = [MOST_READS]

    def count(what: str, path: Path) -> None:
        left[0] -= what == "read"
        assert left[0] > 0, f"{path} is read again and again"

    disk.before = count
    return disk


def taken(disk: Disk) -> list[Event] | None:
    """What is read; None if the log is refused."""
    try:
        return list(read(LOG, files=disk))
    except LogDamaged:
        return None


def verified(disk: Disk) -> tuple[list[Event], bool]:
    """The events before the first problem, and whether there is none."""
    verification = Verification(LOG, disk)
    events: list[Event] = []
    for good in verification.run():
        if not verification.problems:
            events += good.events
    return events, not verification.problems


async def opened(disk: Disk) -> list[Event] | None:
    """What a new leader finds before itself; None if it refuses the log."""
    try:
        log = await Log.open(LOG, run="r1", machine=machine(disk))
    except LogDamaged:
        return None
    events = list(log.history())
    await log.append([said("after")])
    assert [event.seq for event in read(LOG, files=disk)] == list(range(1, len(events) + 3))
    await log.close()
    return events


def mutations(originals: list[Original], chunk: int, *, alone: bool) -> Iterator[tuple[Original, Path, bytes]]:
    """Logs, a file of them, and what it has become."""
    rng = random.Random(f"{chunk} {alone}")
    for _ in range(EACH):
        log = rng.choice(originals)
        path = rng.choice(log.paths)
        data = log.files[path]
        new = data
        while new == data:
            other = rng.choice(list(rng.choice(originals).files.values()))
            new = mutated(rng, data or rng.randbytes(40), other, ALONE if alone else WITH_OTHERS)
        yield log, path, new


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_a_log_gone_wrong_is_read_as_it_was_or_refused(originals: list[Original], chunk: int) -> None:
    for number, (log, path, data) in enumerate(mutations(originals, chunk, alone=True)):
        disk = bounded(disk_of({**log.files, path: data}))
        what = Case(chunk, number, path, data)
        events = taken(disk)
        good, whole = verified(disk)
        assert whole == (events is not None), what
        if events is None:
            assert any(good == world[: len(good)] for world in log.worlds), what
            assert log.counts(path, data), what
        else:
            assert good == events, what
            assert any(events == world[: len(events)] for world in log.worlds), what
            assert events == log.events or log.counts(path, data), what
            assert events == log.events or not log.lost(events, path, data), (what, log.lost(events, path, data))
        assert number % OPENED or await opened(bounded(disk)) == events, what


@pytest.mark.parametrize("chunk", range(SPLICED))
async def test_what_is_put_in_from_elsewhere_is_at_most_whole_lines(originals: list[Original], chunk: int) -> None:
    for number, (log, path, data) in enumerate(mutations(originals, chunk, alone=False)):
        disk = bounded(disk_of({**log.files, path: data}))
        what = Case(chunk, number, path, data)
        events = taken(disk)
        good, whole = verified(disk)
        assert not whole or good == events, what
        for event in [*(events or ()), *good]:
            assert any(event in one.at.get(event.seq, ()) for one in originals), what
        assert number % OPENED or await opened(bounded(disk)) == events, what


async def opened_behind(disk: Disk, trusted: Point) -> list[Event] | None:
    """What a new leader that trusts a point finds, at once or when it reads; None if it is refused."""
    try:
        log = await Log.open(LOG, run="r1", machine=machine(disk), trusted=trusted)
        events = list(log.history())
        assert [log.fetch(event.seq) for event in events] == events
        assert list(log.history(log.trusted)) == events[log.trusted.seq if log.trusted else 0 :]
        await log.append([said("after")])
    except LogDamaged:
        return None
    return events


@pytest.mark.parametrize("chunk", range(TRUSTING))
async def test_behind_a_trusted_point_nothing_else_is_read(
    originals: list[Original], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the log is refused, at once or when it is read: also where a reader that reads all of it cuts it back."""
    monkeypatch.setattr(places, "NEAR", 100)  # so that a search in a log of some hundred bytes has something to do
    monkeypatch.setattr(places, "_PROBE", 160)
    rng = random.Random(chunk)
    taken_over = 0
    for number, (log, path, data) in enumerate(mutations(originals, CHUNKS + chunk, alone=True)):
        what = Case(chunk, number, path, data)
        files = {**log.files, path: data}
        events = await opened_behind(disk_of(files), rng.choice(log.points))
        assert events == taken(disk_of(files)) or (log.relaxed and events is None), what
        taken_over += events is not None
    assert taken_over > EACH * 0.1


def test_mutations_are_of_all_kinds(originals: list[Original]) -> None:
    verdicts = [taken(disk_of({**log.files, path: data})) for log, path, data in mutations(originals, 0, alone=True)]
    refused = sum(events is None for events in verdicts)
    assert EACH * 0.2 < refused < EACH * 0.9
