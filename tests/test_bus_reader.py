"""Reading: parts of a log, large logs, logs that are being written."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.disk import Disk
from support.logs import LOG, machine, open_log, said, segment, texts, write_log

from orch.bus import events as ev
from orch.bus.errors import LogDamaged
from orch.bus.log import Log
from orch.bus.reader import read
from orch.bus.scan import CHUNK
from orch.bus.segment import segment_name


def seqs(directory: Path, disk: Disk, from_seq: int = 1, to_seq: int | None = None) -> list[int]:
    """The numbers that a reader sees."""
    return [event.seq for event in read(directory, from_seq=from_seq, to_seq=to_seq, files=disk)]


async def some_disk() -> Disk:
    """Three epochs: events 1 to 8, 9 to 14, 15 to 26."""
    disk = Disk()
    await write_log(LOG, [3, 1, 2], files=disk, closed=True)
    await write_log(LOG, [1, 4], files=disk)
    await write_log(LOG, [10], files=disk, closed=True)
    return disk


SOME = anyio.run(some_disk)


@given(first=st.integers(-3, 40), last=st.none() | st.integers(-3, 40))
def test_any_part_of_a_log(first: int, last: int | None) -> None:
    wanted = [seq for seq in range(1, 27) if first <= seq and (last is None or seq <= last)]
    assert seqs(LOG, SOME, first, last) == wanted
    assert len(SOME.handles) == 1  # the second epoch's leader still has its own


async def test_a_large_log_is_searched_not_read() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    for k in range(40):
        await log.append([said(f"{k} " + "x" * 3000) for _ in range(25)])
    assert len(disk.get(segment(LOG, 1))) > 10 * CHUNK
    reads: list[str] = []
    disk.before = lambda what, _path: reads.append(what) if what == "read" else None
    for wanted in (1, 2, 26, 27, 500, 777, 1000, 1001):
        reads.clear()
        assert next(iter(read(LOG, from_seq=wanted, files=disk))).seq == wanted
        assert len(reads) <= 12, (wanted, len(reads))
    assert seqs(LOG, disk, 990, 1001) == list(range(990, 1002))
    assert seqs(LOG, disk, 1002) == []


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 120_000), min_size=1, max_size=12), first=st.integers(1, 13))
def test_seeking_among_lines_of_any_length(sizes: list[int], first: int) -> None:
    async def write() -> Disk:
        disk = Disk()
        log = await open_log(LOG, disk)
        for size in sizes:
            await log.append([said("x" * size), said("y")])
        return disk

    disk = anyio.run(write)
    assert seqs(LOG, disk, first) == list(range(first, 2 * len(sizes) + 2))


def test_there_may_be_no_log(tmp_path: Path) -> None:
    assert list(read(tmp_path)) == []
    assert list(read(tmp_path / "nowhere")) == []


async def test_other_files_in_the_directory_are_ignored(tmp_path: Path) -> None:
    await write_log(tmp_path, [1], closed=True)
    for name in ("000009.events.jsonl.bak", "9.events.jsonl", "notes.txt", ".000007.events.jsonl.swp"):
        (tmp_path / name).write_text("x")
    assert len(list(read(tmp_path))) == 3


def test_epochs_may_have_more_than_six_digits() -> None:
    assert segment_name(1) == "000001.events.jsonl"
    assert segment_name(1_234_567) == "1234567.events.jsonl"


async def test_a_log_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    await write_log(tmp_path, [1], closed=True)
    (tmp_path / "000002.events.jsonl").mkdir()
    with pytest.raises(LogDamaged, match=r"000002.*: this is a directory"):
        list(read(tmp_path))


async def test_reading_while_it_is_written(tmp_path: Path) -> None:
    """Whoever reads sees whole groups, without a gap, and never fewer than before."""
    log = await Log.open(tmp_path, run="r1", machine=machine())
    done = threading.Event()
    looks = 0

    def look() -> int:
        nonlocal looks
        seen = 0
        while not done.is_set():
            events = list(read(tmp_path))
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert len(events) >= seen
            assert (len(events) - 1) % 40 == 0
            seen = len(events)
            looks += 1
        return seen

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, look)
        k = 0
        while looks < 30:
            await log.append([said("x" * (k * 37 % 4000)) for _ in range(40)])
            k += 1
        done.set()
    await log.close("ended")
    assert len(list(read(tmp_path))) == k * 40 + 2


async def test_every_prefix_of_what_is_being_written_reads_as_whole_groups() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    sizes: list[int] = []
    for k in range(4):
        sizes.append(len(disk.get(segment(LOG, 1))))
        await log.append([said(f"{k}.{n}") for n in range(k + 1)])
    data = disk.get(segment(LOG, 1))
    now = Disk()
    for length in range(len(data)):
        now.put(segment(LOG, 1), data[:length])
        whole = sum(1 for size in sizes if size <= length)
        assert len(seqs(LOG, now)) == [0, 1, 2, 4, 7][whole]


async def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    log = await Log.open(tmp_path, run="r1")
    events: list[ev.Event] = [
        ev.Added(job=1, kind="k", body=ev.Blob(data=bytes(range(256)), size=256)),
        ev.Annotated(job=1, attempt=1, name="n", value={"a": [1, 2.5, None, "\u2028"]}),
        ev.Failed(job=1, attempt=1, reason="FAILED", exit_code=0),
    ]
    await log.append(events)
    await log.close("ended")
    found = list(read(tmp_path))
    assert found[1:-1] == events
    assert texts(found) == ["Opened", "Added", "Annotated", "Failed", "Closed"]


@pytest.mark.parametrize("when", range(6))
async def test_a_log_that_grows_while_it_is_read_is_not_taken_for_damaged(when: int) -> None:
    disk = Disk()
    log = await write_log(LOG, [2], files=disk)
    for text in ("a", "b", "c"):
        await log.append([said(text), said(text)])
    entry = disk.files[segment(LOG, 1)]
    data = bytes(entry.data)
    del entry.data[data.index(b'{"seq":4') + 10 :]
    left = [when]

    def grow(what: str, _path: Path) -> None:
        """The leader writes two groups and a half before this read."""
        if what == "read" and left[0] == 0:
            entry.data[:] = data
        left[0] -= what == "read"

    disk.before = grow
    found = [event.seq for event in read(LOG, files=disk)]
    assert found in ([1, 2, 3], list(range(1, 10)))
