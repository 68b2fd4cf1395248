"""Following a log from outside, across leaders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from support.disk import Disk
from support.logs import LOG, machine, open_log, said, segment, texts, write_log

from orch.bus import events as ev
from orch.bus.errors import Fenced, LogDamaged
from orch.bus.log import Log
from orch.bus.reader import read
from orch.bus.tail import LATE, SOON, follow


class Pauses:
    """In place of sleep: hands over to the test at each pause, and notes how long it would have been."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.reached = anyio.Event()
        self._go = anyio.Event()

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.reached.set()
        await self._go.wait()
        self._go = anyio.Event()

    async def next(self) -> None:
        """Let the follower look again, until it pauses the next time."""
        self.reached = anyio.Event()
        self._go.set()
        await self.reached.wait()


class Reader:
    """A follower in a task of its own."""

    def __init__(self, events: AsyncIterator[list[ev.Event]]) -> None:
        self.seen: list[ev.Event] = []
        self.batches: list[list[ev.Event]] = []
        self.done = anyio.Event()
        self._events = events

    async def run(self) -> None:
        async for batch in self._events:
            self.batches.append(batch)
            self.seen += batch
        self.done.set()


async def test_events_are_followed_as_they_come() -> None:
    disk = Disk()
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        assert reader.seen == []
        log = await open_log(LOG, disk)
        await pauses.next()
        assert texts(reader.seen) == ["Opened"]
        for k in range(3):
            await log.append([said(f"{k}a"), said(f"{k}b")])
            await pauses.next()
        assert [texts(batch) for batch in reader.batches] == [["Opened"], ["0a", "0b"], ["1a", "1b"], ["2a", "2b"]]
        tasks.cancel_scope.cancel()
    assert reader.seen == list(read(LOG, files=disk))


async def test_it_looks_less_often_when_nothing_comes() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        for _ in range(8):
            await pauses.next()
        assert pauses.waited[0] == SOON
        assert pauses.waited == sorted(pauses.waited)
        assert pauses.waited[-1] == LATE
        await log.append([said("x")])
        await pauses.next()
        assert pauses.waited[-1] == SOON
        tasks.cancel_scope.cancel()


async def test_only_whole_groups_are_handed_out() -> None:
    whole = Disk()
    await write_log(LOG, [3, 2], files=whole)
    data = whole.get(segment(LOG, 1))
    disk = Disk()
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        for length in range(0, len(data) + 1, 5):
            disk.put(segment(LOG, 1), data[:length])
            await pauses.next()
        disk.put(segment(LOG, 1), data)
        await pauses.next()
        tasks.cancel_scope.cancel()
    assert [len(batch) for batch in reader.batches] == [1, 3, 2]


async def test_a_stale_leader_is_not_followed() -> None:
    disk = Disk()
    old = await write_log(LOG, [1], files=disk)
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        new = await open_log(LOG, disk)
        with pytest.raises(Fenced):
            await old.append([said("void")])
        await pauses.next()
        await new.append([said("counts")])
        await pauses.next()
        newer = await open_log(LOG, disk)
        await newer.append([said("too")])
        await pauses.next()
        tasks.cancel_scope.cancel()
    assert texts(reader.seen) == ["Opened", "e2", "Opened", "counts", "Opened", "too"]
    assert reader.seen == list(read(LOG, files=disk))


async def test_a_claim_that_is_not_taken_up_does_not_stop_it() -> None:
    disk = Disk()
    log = await write_log(LOG, [1], files=disk)
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        disk.put(segment(LOG, 2), b"")
        with pytest.raises(Fenced):
            await log.append([said("late, but nobody has taken over")])
        await pauses.next()
        assert len(reader.seen) == 3
        await write_log(LOG, [1], files=disk)
        await pauses.next()
        tasks.cancel_scope.cancel()
    assert [event.seq for event in reader.seen] == [1, 2, 3, 4, 5]


async def test_what_was_seen_and_became_void_shows_by_its_number() -> None:
    """The documented limit: here the disk of the leader's host lost a group that a follower had seen."""
    disk = Disk()
    log = await write_log(LOG, [1], files=disk)
    before = disk.get(segment(LOG, 1))
    await log.append([said("seen, and lost")])
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        disk.put(segment(LOG, 1), before)
        await write_log(LOG, [1], files=disk, text="new")
        await pauses.next()
        tasks.cancel_scope.cancel()
    assert [event.seq for event in reader.seen] == [1, 2, 3, 3, 4]
    assert texts(reader.seen)[2:] == ["seen, and lost", "Opened", "new4"]


async def test_a_segment_that_turns_out_to_be_void() -> None:
    """A claimant was slow: its first line came when the next one had looked already."""
    disk = Disk()
    await write_log(LOG, [1], files=disk)
    slow = Disk()
    slow.put(segment(LOG, 1), disk.get(segment(LOG, 1)))
    await write_log(LOG, [1], files=slow, text="slow")
    disk.put(segment(LOG, 2), slow.get(segment(LOG, 2)))
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        other = Disk()
        other.put(segment(LOG, 1), disk.get(segment(LOG, 1)))
        other.put(segment(LOG, 2), b"")
        await write_log(LOG, [2], files=other, text="new")
        disk.put(segment(LOG, 3), other.get(segment(LOG, 3)))
        await pauses.next()
        tasks.cancel_scope.cancel()
    assert texts(reader.seen) == ["Opened", "e2", "Opened", "slow4", "Opened", "new4", "new5"]
    assert [event.seq for event in reader.seen] == [1, 2, 3, 4, 3, 4, 5]


async def collect(directory: Path, from_seq: int, disk: Disk) -> list[ev.Event]:
    """Everything until the run's end; to wait would be an error."""

    async def never(_seconds: float) -> None:
        raise AssertionError("there is nothing to wait for")

    return [
        event
        async for batch in follow(directory, from_seq, until_ended=True, sleep=never, files=disk)
        for event in batch
    ]


async def ended_run(disk: Disk, *, restarted: bool = False) -> Log:
    """An epoch that ends the run."""
    log = await open_log(LOG, disk)
    if restarted:
        await log.append([ev.Restarted()])
    await log.append([said("x")])
    await log.append([ev.Ended(outcome="succeeded")])
    await log.append([said("a last word")])
    await log.close("ended")
    return log


@pytest.mark.parametrize("from_seq", range(1, 17))
async def test_it_ends_with_the_run_from_wherever_it_began(from_seq: int) -> None:
    disk = Disk()
    await write_log(LOG, [1], files=disk)
    await ended_run(disk)
    assert [event.seq for event in await collect(LOG, from_seq, disk)] == list(range(from_seq, 8))
    await write_log(LOG, [], files=disk, closed=True)  # opened once more, to read its result
    assert [event.seq for event in await collect(LOG, from_seq, disk)] == list(range(from_seq, 10))
    await ended_run(disk, restarted=True)
    assert [event.seq for event in await collect(LOG, from_seq, disk)] == list(range(from_seq, 16))


async def test_it_goes_on_when_the_run_does() -> None:
    disk = Disk()
    log = await ended_run(disk)
    pauses = Pauses()
    again = await open_log(LOG, disk)
    reader = Reader(follow(LOG, from_seq=log.last_seq + 1, until_ended=True, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        await again.append([ev.Restarted()])
        for _ in range(30):
            await pauses.next()
        await again.append([ev.Ended(outcome="failed")])
        await again.close("ended")
        pauses._go.set()
        await reader.done.wait()
    assert texts(reader.seen) == ["Opened", "Restarted", "Ended", "Closed"]


async def test_it_does_not_wait_for_ever_for_a_leader_that_died_after_the_end() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    await log.append([ev.Ended(outcome="failed")])
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    batches = [batch async for batch in follow(LOG, until_ended=True, sleep=sleep, files=disk)]
    assert texts(batches[-1]) == ["Opened", "Ended"]
    assert 2 < sum(waited) < 10


async def test_damage_ends_it() -> None:
    disk = Disk()
    await write_log(LOG, [1, 1], files=disk, closed=True)
    data = disk.get(segment(LOG, 1))
    disk.put(segment(LOG, 1), data[:-30] + b"?" + data[-29:])
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))

    async def run() -> None:
        with pytest.raises(LogDamaged):
            await reader.run()
        pauses.reached.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await pauses.reached.wait()  # it looks twice: a network file system may show old bytes for a moment
        await pauses.next()
    assert texts(reader.seen) == ["Opened", "e2", "e3"]


async def test_old_bytes_of_a_network_file_system_are_looked_at_again() -> None:
    disk = Disk()
    await write_log(LOG, [1, 1], files=disk)
    data = disk.get(segment(LOG, 1))
    disk.put(segment(LOG, 1), data[:300] + bytes(20) + data[320:])
    pauses = Pauses()
    reader = Reader(follow(LOG, sleep=pauses, files=disk))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run)
        await pauses.reached.wait()
        disk.put(segment(LOG, 1), data)
        await pauses.next()
        tasks.cancel_scope.cancel()
    assert len(reader.seen) == 3


WRITER = """
import sys, anyio
from pathlib import Path
from orch.bus import events as ev
from orch.bus.log import Log

async def main(directory, number, last):
    log = await Log.open(Path(directory), run="r1")
    for k in range(50):
        await log.append([ev.Warned(message=f"{number}.{k}"), ev.Warned(message="x" * 1000)])
    if last:
        await log.append([ev.Ended(outcome="succeeded")])
        await log.close("ended")

anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[2] == "2")
"""


async def test_following_other_processes_across_segments(tmp_path: Path) -> None:
    reader = Reader(follow(tmp_path, until_ended=True))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            for number in range(3):  # the first two leave without a word
                await anyio.run_process(
                    [sys.executable, "-c", WRITER, str(tmp_path), str(number)], stdout=None, stderr=subprocess.PIPE
                )
            await reader.done.wait()
    assert reader.seen == list(read(tmp_path))
    said_by = [text for text in texts(reader.seen) if "." in text]
    assert said_by == [f"{number}.{k}" for number in range(3) for k in range(50)]


async def test_a_large_log_comes_in_batches() -> None:
    disk = Disk()
    log = await Log.open(LOG, run="r1", machine=machine(disk))
    for _ in range(60):
        await log.append([said("x" * 10_000) for _ in range(20)])
    await log.append([ev.Ended(outcome="succeeded")])
    await log.close("ended")
    sizes = [len(batch) async for batch in follow(LOG, until_ended=True, files=disk)]
    assert sum(sizes) == 1203
    assert 1 < len(sizes) < 10
