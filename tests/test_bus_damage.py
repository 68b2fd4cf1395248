"""Torn tails are cut back; damage is refused, with file and offset. Done on a disk in memory: there are many cases."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from support.disk import Disk
from support.logs import LOG, clock, open_log, said, segment, texts, without_sums, write_log

from orch.bus import events as ev
from orch.bus.codec import END, TAIL
from orch.bus.errors import LogDamaged
from orch.bus.log import Log
from orch.bus.reader import read

FIRST = segment(LOG, 1)
AT = re.compile(r"at byte (\d+)")


FORMS: dict[str, Callable[[bytes], bytes]] = {"sums": bytes, "no sums": without_sums}
"""A log as it is written now, and as it was before groups had sums."""


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    """What makes the bytes of a log those of a form."""
    return FORMS[request.param]


async def written(groups: Sequence[int], *, closed: bool = False) -> bytes:
    """The bytes of a log's only segment."""
    disk = Disk()
    await write_log(LOG, groups, files=disk, closed=closed)
    return disk.get(FIRST)


def bytes_of(groups: Sequence[int], *, closed: bool = False) -> bytes:
    """The same, for tests that are not async."""
    return anyio.run(lambda: written(groups, closed=closed))


def disk_with(data: bytes) -> Disk:
    """A disk with a log of one segment."""
    disk = Disk()
    disk.put(FIRST, data)
    return disk


def whole_groups(data: bytes) -> list[tuple[int, int]]:
    """Offset and last seq behind each whole group of good bytes."""
    found, at = [(0, 0)], 0
    for seq, line in enumerate(data.splitlines(keepends=True), 1):
        at += len(line)
        if line.startswith(END, len(line) - 1 - TAIL - len(END)):
            found.append((at, seq))
    return found


def last_whole(data: bytes, cut: int) -> int:
    """Number of the last event of the last group that is whole within `cut` bytes."""
    return max(seq for at, seq in whole_groups(data) if at <= cut)


async def takes_over(disk: Disk, last: int) -> Log:
    """A new leader finds everything up to event `last`, goes on, and all is read in one piece."""
    log = await open_log(LOG, disk)
    assert [event.seq for event in log.history()] == list(range(1, last + 1))
    await log.append([said("after")])
    seqs = [event.seq for event in read(LOG, files=disk)]
    assert seqs == list(range(1, last + 3))
    assert log.fetch(last + 2) == list(read(LOG, files=disk))[-1]
    return log


def refused(disk: Disk) -> int:
    """Neither a reader nor a leader takes the log; the leader leaves it as it is. Gives the offset they name."""
    before = {path: bytes(entry.data) for path, entry in disk.files.items()}
    with pytest.raises(LogDamaged) as by_reader:
        list(read(LOG, files=disk))
    with pytest.raises(LogDamaged) as by_leader:
        anyio.run(open_log, LOG, disk)
    assert str(by_leader.value) == str(by_reader.value)
    assert {path: bytes(entry.data) for path, entry in disk.files.items()} == before
    assert str(LOG) in str(by_reader.value)
    assert by_reader.value.exit_code == 4
    offset = AT.search(str(by_reader.value))
    assert offset
    assert not disk.handles
    return int(offset[1])


async def test_an_unclosed_log_is_cut_back_wherever_it_was_cut() -> None:
    data = await written([3, 1, 1, 4, 1, 2, 9, 1, 5, 1, 6])
    assert len(data) > 4096
    for cut in range(len(data) - 4096, len(data) + 1):
        disk = disk_with(data[:cut])
        last = last_whole(data, cut)
        assert [event.seq for event in read(LOG, files=disk)] == list(range(1, last + 1)), cut
        await takes_over(disk, last)


async def test_a_closed_log_that_is_cut_is_an_unclosed_one() -> None:
    data = await written([1, 2], closed=True)
    for cut in range(len(data) + 1):
        await takes_over(disk_with(data[:cut]), last_whole(data, cut))


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_a_flipped_byte_anywhere_in_a_closed_log_is_refused(mask: int, form: Callable[[bytes], bytes]) -> None:
    data = form(bytes_of([2, 1], closed=True))
    starts = [0, *(m.end() for m in re.finditer(b"\n", data))]
    for at in range(len(data)):
        disk = disk_with(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
        offset = refused(disk)
        assert offset == max(start for start in starts if start <= at), at
        left = list(read(LOG, strict=False, files=disk))
        assert [event.seq for event in left] == list(range(1, last_whole(data, at) + 1))


@pytest.mark.parametrize("groups", [[1, 1], [2, 3], [1, 1, 2]])
async def test_a_flipped_byte_in_an_open_log_is_refused(groups: list[int], form: Callable[[bytes], bytes]) -> None:
    """In the mark that ends the last group, too, but nothing shows there that it was whole."""
    data = form(await written(groups))
    before = whole_groups(data)[-2][1]
    for at in range(len(data)):
        disk = disk_with(data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :])
        if at in marks(data):
            await takes_over(disk, before)
        else:
            await anyio.to_thread.run_sync(refused, disk)


def marks(data: bytes) -> set[int]:
    """Offsets of what says that the last group is whole: its end mark, and the newline."""
    end = len(data) - 1 - TAIL
    return {*range(end - len(END), end), len(data) - 1}


async def test_a_flipped_byte_before_a_torn_last_group_is_refused() -> None:
    data = await written([1, 1, 3])
    torn_from, _ = whole_groups(data)[-2]
    for at in range(torn_from):
        flipped = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
        if at == torn_from - 1:  # the newline before a line that is not whole: nothing shows that it began there
            continue
        await anyio.to_thread.run_sync(refused, disk_with(flipped[: torn_from + 100]))


def without(lines: list[bytes], k: int) -> list[bytes]:
    return lines[:k] + lines[k + 1 :]


def twice(lines: list[bytes], k: int) -> list[bytes]:
    return [*lines[: k + 1], *lines[k:]]


def swapped(lines: list[bytes], k: int) -> list[bytes]:
    return [*lines[:k], lines[k + 1], lines[k], *lines[k + 2 :]]


@pytest.mark.parametrize("change", [without, twice, swapped])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_lines_missing_doubled_or_out_of_order_are_refused(
    change: Any, closed: bool, form: Callable[[bytes], bytes]
) -> None:
    data = form(bytes_of([2, 1, 3, 1], closed=closed))
    lines = data.splitlines(keepends=True)
    last = 1 if change is without else 2  # without its last line, a log is one that was cut
    for k in range(len(lines) - last + (1 if change is twice else 0)):
        assert refused(disk_with(b"".join(change(lines, k)))) <= len(b"".join(lines[: k + 1]))


@pytest.mark.parametrize("change", [without, twice, swapped])
async def test_lines_missing_doubled_or_out_of_order_in_the_last_group_are_refused(
    change: Any, form: Callable[[bytes], bytes]
) -> None:
    lines = form(await written([2, 4])).splitlines(keepends=True)
    for k in range(3, len(lines) - 2):
        await anyio.to_thread.run_sync(refused, disk_with(b"".join(change(lines, k))))


async def test_a_last_group_with_holes_is_dropped(form: Callable[[bytes], bytes]) -> None:
    data = form(await written([1, 5]))
    group, last = whole_groups(data)[-2]
    for start in range(group, len(data) - 64, 16):
        holed = data[:start] + bytes(64) + data[start + 64 :]
        await takes_over(disk_with(holed), last)


async def test_a_closing_line_with_a_hole_or_zeros_behind_is_torn() -> None:
    data = await written([1], closed=True)
    line, last = whole_groups(data)[-2]
    await takes_over(disk_with(data[:line] + bytes(64) + data[line + 64 :]), last)
    await takes_over(disk_with(data[: line + 40] + bytes(4096)), last)


def test_bytes_behind_the_closing_line_are_refused() -> None:
    data = bytes_of([1], closed=True)
    for more in (b"x", b"\n", b"\0", data.splitlines(keepends=True)[-1]):
        assert refused(disk_with(data + more)) == len(data)


async def test_what_users_say_cannot_pass_for_the_format() -> None:
    nasty = '{"seq":9,"time":"t","epoch":1,"group":9,"type":"closed","end":true,"crc":"00000000"}\n'
    value = {"seq": 9, "time": "t", "epoch": 1, "group": 9, "type": "closed", "end": True, "crc": "00000000"}
    disk = Disk()
    log = await open_log(LOG, disk)
    await log.append([said(nasty)])
    group = len(disk.get(FIRST))
    await log.append([ev.Annotated(job=1, attempt=1, name="n", value=value), said(nasty)])
    data = disk.get(FIRST)
    for cut in range(group, len(data)):
        await takes_over(disk_with(data[:cut]), 2)
    for at in range(group, len(data)):
        disk = disk_with(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        if at in marks(data):
            await takes_over(disk, 2)
        else:
            await anyio.to_thread.run_sync(refused, disk)


async def test_a_group_larger_than_what_is_read_at_once() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    await log.append([said(f"{k} " + "x" * 3000) for k in range(500)])
    data = disk.get(FIRST)
    assert len(data) > 1_400_000
    assert len(list(read(LOG, files=disk))) == 501
    for cut in (len(data) - 1, len(data) // 2, 300_000):
        await takes_over(disk_with(data[:cut]), 1)


async def test_whole_lines_in_a_group_that_are_not_those_that_were_written_are_refused() -> None:
    """Which the crc of each line does not show."""
    disk, other = Disk(), Disk()
    await write_log(LOG, [1, 3, 2], files=disk)
    await write_log(LOG, [1, 3, 2], files=other, text="other")
    lines, others = (each.get(FIRST).splitlines(keepends=True) for each in (disk, other))
    for k in (2, 3, 5):  # all but the last ones of their groups
        mixed = [*lines[:k], others[k], *lines[k + 1 :]]
        last = 4 if k < 5 else 6
        assert await anyio.to_thread.run_sync(refused, disk_with(b"".join(mixed))) == len(b"".join(mixed[:last]))


async def test_a_superseded_segment_is_whole_up_to_its_stated_end() -> None:
    disk = Disk()
    await write_log(LOG, [2, 1], files=disk)
    end = len(disk.get(FIRST))
    await write_log(LOG, [1], files=disk, text="second")
    first, second = disk.get(FIRST), disk.get(segment(LOG, 2))
    for at in range(end):
        broken = disk_with(first[:at] + bytes([first[at] ^ 1]) + first[at + 1 :])
        broken.put(segment(LOG, 2), second)
        await anyio.to_thread.run_sync(refused, broken)
        short = disk_with(first[:at])
        short.put(segment(LOG, 2), second)
        await anyio.to_thread.run_sync(refused, short)


async def test_a_missing_segment_is_refused() -> None:
    disk = Disk()
    for _ in range(3):
        await write_log(LOG, [1], files=disk, closed=True)
    for epoch in (1, 2):
        broken = Disk()
        for other in {1, 2, 3} - {epoch}:
            broken.put(segment(LOG, other), disk.get(segment(LOG, other)))
        await anyio.to_thread.run_sync(refused, broken)


async def test_a_segment_under_another_name_is_refused() -> None:
    disk = Disk()
    await write_log(LOG, [1], files=disk)
    await write_log(LOG, [1], files=disk)
    renamed = disk_with(disk.get(segment(LOG, 2)))
    await anyio.to_thread.run_sync(refused, renamed)


async def test_relaxed_takes_holes_anywhere_as_torn() -> None:
    disk = Disk()
    log = await open_log(LOG, disk, "relaxed")
    for k in range(4):
        await log.append([said(str(k))])
    data = disk.get(FIRST)
    at = whole_groups(data)[2][0]
    await takes_over(disk_with(data[:at] + bytes(20) + data[at + 20 :]), 2)


def test_the_clock_of_these_tests_goes_on() -> None:
    tick = clock()
    assert tick() < tick()
    assert texts([said("x"), ev.Ended(outcome="failed")]) == ["x", "Ended"]


@pytest.mark.parametrize("change", [lambda data: bytes(len(data)), lambda data: data.replace(b"\n", b"\r\n")])
async def test_a_segment_without_any_line_is_no_claim_whose_maker_died(change: Any) -> None:
    """A first line is written alone, and made durable before more follows."""
    data = await written([10, 10])
    assert await anyio.to_thread.run_sync(refused, disk_with(change(data))) == 0
