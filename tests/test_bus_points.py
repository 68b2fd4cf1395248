"""Trusted points: what lies before one is not read when a log is opened, and is there all the same."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.disk import Disk
from support.logs import LOG, open_log, points, said, segment, texts, without_sums, write_log

from orch.bus.errors import Fenced, LogDamaged
from orch.bus.log import Log
from orch.bus.places import NEAR, Point
from orch.bus.reader import point_behind, read


async def long_log(disk: Disk, groups: int = 40) -> Log:
    """One epoch of several megabytes, which nobody has closed."""
    log = await open_log(LOG, disk)
    for k in range(groups):
        await log.append([said(f"{k}.{n} " + "x" * 3000) for n in range(25)])
    return log


def bytes_read(disk: Disk) -> list[int]:
    """A list that gets the sizes of what is read from now on."""
    sizes: list[int] = []
    real = disk.read

    def read_and_note(handle: int, offset: int, size: int) -> bytes:
        data = real(handle, offset, size)
        sizes.append(len(data))
        return data

    disk.read = read_and_note  # type: ignore[method-assign]
    return sizes


async def test_only_what_follows_a_trusted_point_is_read() -> None:
    disk = Disk()
    old = await long_log(disk)
    point = await old.point()
    assert point == points(LOG, disk)[-1]
    await old.append([said("behind")])
    sizes = bytes_read(disk)
    log = await open_log(LOG, disk, trusted=point)
    assert sum(sizes) < 500_000 < len(disk.get(segment(LOG, 1))) / 6
    assert log.trusted == point
    assert texts(list(log.history(point))) == ["behind"]
    assert [event.seq for event in log.history()] == list(range(1, 1003))
    assert (log.last_seq, log.opened.seq) == (1003, 1003)


async def test_events_before_a_trusted_point_are_fetched() -> None:
    disk = Disk()
    point = await (await long_log(disk)).point()
    events = list(read(LOG, files=disk))
    log = await open_log(LOG, disk, trusted=point)
    sizes = bytes_read(disk)
    for seq in (1, 2, 500, 26, 27, 1001, 777):
        sizes.clear()
        assert log.fetch(seq) == events[seq - 1]
        assert sum(sizes) < 10 * NEAR
    for seq in range(1, 1002):
        assert log.fetch(seq).seq == seq
    sizes.clear()
    assert log.fetch(500) == events[499]
    assert sum(sizes) <= 3 * NEAR, "what was met is known"


async def test_points_of_earlier_epochs() -> None:
    disk = Disk()
    for size in (2, 3, 1):
        await write_log(LOG, [size, 2], files=disk)
    wanted = list(read(LOG, files=disk))
    for point in points(LOG, disk):
        copied = Disk()
        for path, entry in disk.files.items():
            copied.put(path, bytes(entry.data))
        log = await open_log(LOG, copied, trusted=point)
        assert log.trusted == point
        assert list(log.history()) == wanted
        assert list(log.history(point)) == wanted[point.seq :]
        assert [log.fetch(event.seq) for event in wanted] == wanted


async def test_a_log_without_sums_has_points_too() -> None:
    disk = Disk()
    await write_log(LOG, [3, 2], files=disk)
    disk.put(segment(LOG, 1), without_sums(disk.get(segment(LOG, 1))))
    point = points(LOG, disk)[1]
    log = await open_log(LOG, disk, trusted=point)
    assert log.trusted == point
    assert texts(list(log.history(point))) == ["e5", "e6"]


@pytest.mark.parametrize(
    "change",
    [
        {"segment": "000002.events.jsonl"},
        {"segment": "notes.txt"},
        {"seq": 3},
        {"seq": 0},
        {"length": 1},
        {"length": -1},
        {"length": 0},
        {"length": 10**9},
        {"crc": "00000000"},
        {"crc": ""},
    ],
    ids=str,
)
async def test_a_point_that_the_log_does_not_have_is_ignored(change: dict[str, object]) -> None:
    disk = Disk()
    await write_log(LOG, [3, 1], files=disk)
    point = msgspec.structs.replace(points(LOG, disk)[1], **change)
    log = await open_log(LOG, disk, trusted=point)
    assert log.trusted is None
    assert [event.seq for event in log.history()] == [1, 2, 3, 4, 5]


async def test_a_point_within_a_group_is_ignored() -> None:
    disk = Disk()
    await write_log(LOG, [3], files=disk)
    lines = disk.get(segment(LOG, 1)).splitlines(keepends=True)
    within = Point("000001.events.jsonl", 2, len(lines[0] + lines[1]), lines[1][-11:-3].decode())
    assert (await open_log(LOG, disk, trusted=within)).trusted is None


async def test_a_point_in_what_is_void_is_ignored() -> None:
    """As that of a leader which was superseded: nothing that it wrote too late counts."""
    disk = Disk()
    old = await write_log(LOG, [1], files=disk)
    await open_log(LOG, disk)
    with pytest.raises(Fenced):
        await old.append([said("void")])
    with pytest.raises(Fenced):
        await old.point()
    line = disk.get(segment(LOG, 1)).splitlines(keepends=True)[-1]
    void = Point("000001.events.jsonl", 3, len(disk.get(segment(LOG, 1))), line[-11:-3].decode())
    log = await open_log(LOG, disk, trusted=void)
    assert log.trusted is None
    assert texts(list(log.history())) == ["Opened", "e2", "Opened"]


async def test_damage_before_a_trusted_point_is_found_when_it_is_read() -> None:
    disk = Disk()
    last = await (await long_log(disk, 2)).point()
    data = bytearray(disk.get(segment(LOG, 1)))
    at = data.index(b"0.3 ")
    data[at + 50] ^= 1
    disk.put(segment(LOG, 1), bytes(data))
    log = await open_log(LOG, disk, trusted=last)
    assert log.trusted == last
    assert list(log.history(last)) == []
    line = data.rindex(b"\n", 0, at) + 1
    with pytest.raises(LogDamaged, match=f"at byte {line}"):
        list(log.history())
    with pytest.raises(LogDamaged, match=f"at byte {line}: event 5 cannot be read"):
        log.fetch(5)
    assert log.fetch(50).seq == 50


async def test_damage_in_the_group_that_ends_at_the_point_is_refused() -> None:
    """It is looked at, since it may be written again."""
    disk = Disk()
    await write_log(LOG, [2, 3], files=disk)
    before, point = points(LOG, disk)[-2:]
    data = bytearray(disk.get(segment(LOG, 1)))
    data[before.length + 100] ^= 1
    disk.put(segment(LOG, 1), bytes(data))
    with pytest.raises(LogDamaged, match=f"at byte {before.length}"):
        await open_log(LOG, disk, trusted=point)


async def test_the_point_of_a_relaxed_log_is_durable() -> None:
    disk = Disk()
    relaxed = await open_log(LOG, disk, "relaxed")
    await relaxed.append([said("a")])
    point = await relaxed.point()
    await relaxed.append([said("b")])
    disk.power_cut()
    log = await open_log(LOG, disk, trusted=point)
    assert log.trusted == point
    assert texts(list(log.history())) == ["Opened", "a"]


async def test_a_line_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await log.append([said("a"), said("x" * 300_000)])
    point = await log.point()
    await log.append([said("y" * 70_000), said("b")])
    again = await open_log(tmp_path, trusted=point)
    assert again.trusted == point
    assert [len(text) for text in texts(list(again.history(point)))] == [70_000, 1]
    assert texts([again.fetch(5), again.fetch(2)]) == ["b", "a"]
    await again.close("left")


async def test_the_point_behind_an_event() -> None:
    disk = Disk()
    for size in (2, 3):
        await write_log(LOG, [size, 2], files=disk)
    known = {point.seq: point for point in points(LOG, disk)}
    assert [point_behind(LOG, seq, disk) for seq in range(13)] == [known.get(seq) for seq in range(13)]
