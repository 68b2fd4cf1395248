"""The log's one writer: groups, durability, failures, reading back."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import anyio
import pytest
from support.disk import Disk
from support.logs import LOG, machine, open_log, said, segment, texts, write_log

from orch.bus import events as ev
from orch.bus.codec import finish
from orch.bus.errors import LogTooNew, LogTrouble
from orch.bus.log import Durability, Log
from orch.bus.reader import read


def lines(path: Path) -> list[dict[str, object]]:
    """A segment's lines as any JSON reader sees them."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_a_new_log_on_a_real_disk(tmp_path: Path) -> None:
    log = await open_log(tmp_path / "runs" / "r1" / "log")
    assert (log.epoch, log.last_seq, list(log.history())) == (1, 1, [])
    events = await log.append([said("a"), said("b")])
    assert [(e.seq, e.group, e.epoch) for e in events] == [(2, 2, 1), (3, 2, 1)]
    await log.close("ended")
    assert log.last_seq == 4
    path = segment(log.directory, 1)
    found = lines(path)
    assert [line["type"] for line in found] == ["opened", "warned", "warned", "closed"]
    assert [line["seq"] for line in found] == [1, 2, 3, 4]
    assert [line["group"] for line in found] == [1, 2, 2, 4]
    assert [line.get("end") for line in found] == [True, None, True, True]
    assert found[1]["time"] == "2030-01-02T03:04:05.000001Z"
    assert path.stat().st_mode & 0o777 == 0o600
    assert log.directory.stat().st_mode & 0o777 == 0o700


async def test_opened_says_who_leads(tmp_path: Path) -> None:
    log = await Log.open(tmp_path, run="r1")
    assert log.opened.pid == os.getpid()
    assert (log.opened.run, log.opened.seq, log.opened.epoch, log.opened.after) == ("r1", 1, 1, None)
    assert list(read(tmp_path)) == [log.opened]
    await log.close("stopped")


async def test_what_is_staged_together_is_one_group() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    writes: list[str] = []
    disk.before = lambda what, _path: writes.append(what) if what in {"write", "sync"} else None
    assert texts(log.stage([said("a"), said("b")])) == ["a", "b"]
    assert log.stage([]) == []
    third = log.stage([said("c")])[0]
    assert (third.seq, third.group, log.last_seq) == (4, 2, 1)
    assert list(read(LOG, files=disk)) == [log.opened]
    with pytest.raises(LookupError):
        log.fetch(4)
    writes.clear()
    await log.commit()
    assert writes == ["write", "sync"]
    await log.commit()
    assert writes == ["write", "sync"]
    assert texts(list(read(LOG, files=disk))[1:]) == ["a", "b", "c"]
    assert log.fetch(4) == third
    assert log.last_seq == 4


async def test_a_bad_event_leaves_its_companions_unstaged() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    good, bad = said("good"), said("\udcff")
    with pytest.raises(ValueError, match="cannot be written"):
        log.stage([good, bad])
    assert good.seq == 0
    await log.append([good])
    assert good.seq == 2


async def test_an_event_is_appended_once() -> None:
    log = await open_log(LOG, Disk())
    event = said("x")
    await log.append([event])
    with pytest.raises(ValueError, match="in a log already"):
        log.stage([event])


async def test_commits_at_the_same_time_take_their_turns() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    durable: dict[int, int] = {}

    async def append(k: int) -> None:
        event = (await log.append([said(str(k))]))[0]
        durable[event.seq] = log.last_seq

    async with anyio.create_task_group() as tasks:
        for k in range(20):
            tasks.start_soon(append, k)
    assert [event.seq for event in read(LOG, files=disk)] == list(range(1, 22))
    assert all(last >= seq for seq, last in durable.items())
    groups = {event.group for event in read(LOG, files=disk)}
    assert len(groups) < 20, "what waits is written together"


async def test_a_commit_is_not_left_half_done_when_cancelled() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    with anyio.CancelScope() as scope:
        log.stage([said("x")])
        scope.cancel()
        await log.commit()
    await log.append([said("y")])
    assert texts(list(read(LOG, files=disk))[1:]) == ["x", "y"]


@pytest.mark.parametrize("operation", ["write", "sync", "exists"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
async def test_a_failure_is_final(operation: str, number: int) -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    await log.append([said("kept")])

    def fail(what: str, path: Path) -> None:
        if what == operation:
            raise OSError(number, os.strerror(number), str(path))

    disk.before = fail
    log.stage([said("lost")])
    with pytest.raises(LogTrouble, match=os.strerror(number)) as first:
        await log.commit()
    assert str(segment(LOG, 1)) in str(first.value)
    assert first.value.exit_code == 6
    disk.before = lambda _what, _path: None
    operations: list[str] = []
    disk.before = lambda what, _path: operations.append(what)
    for call in (log.commit(), log.append([said("never")])):
        with pytest.raises(LogTrouble) as again:
            await call
        assert again.value is first.value
    assert operations == []
    assert texts([log.fetch(2)]) == ["kept"]
    assert log.last_seq == 2
    await log.close("error")
    assert not disk.handles


@pytest.mark.parametrize("room", range(0, 400, 7))
async def test_a_full_disk_leaves_a_log_that_replays(room: int) -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    await log.append([said("kept")])
    disk.room = room
    with pytest.raises(LogTrouble, match="No space left"):
        await log.append([said("x" * 100), said("y" * 100), said("z" * 100)])
    assert texts(list(read(LOG, files=disk))) == ["Opened", "kept"]
    disk.room = None
    log = await open_log(LOG, disk)
    await log.append([said("more")])
    assert texts(list(read(LOG, files=disk))) == ["Opened", "kept", "Opened", "more"]


@pytest.mark.parametrize("operation", ["make_dir", "list", "create", "sync_dir", "open", "read", "write", "sync"])
async def test_trouble_while_opening(operation: str) -> None:
    disk = Disk()
    await write_log(LOG, [1], files=disk)
    disk.handles.clear()

    def fail(what: str, path: Path) -> None:
        if what == operation:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    disk.before = fail
    with pytest.raises(LogTrouble, match="Input/output error"):
        await open_log(LOG, disk)
    assert not disk.handles
    disk.before = lambda _what, _path: None
    log = await open_log(LOG, disk)
    assert texts(list(log.history()))[:2] == ["Opened", "e2"]


async def test_what_was_acknowledged_survives_a_power_cut() -> None:
    disk = Disk()
    log = await write_log(LOG, [1, 3], files=disk)
    disk.power_cut()
    assert [event.seq for event in read(LOG, files=disk)] == list(range(1, log.last_seq + 1))


async def test_relaxed_loses_only_the_end_to_a_power_cut_and_nothing_once_closed() -> None:
    disk = Disk()
    log = await open_log(LOG, disk, "relaxed")
    await log.append([said("a")])
    assert texts(list(read(LOG, files=disk))) == ["Opened", "a"]
    disk.power_cut()
    assert texts(list(read(LOG, files=disk))) == ["Opened"]
    log = await open_log(LOG, disk, "relaxed")
    await log.append([said("b")])
    await log.close("ended")
    disk.power_cut()
    assert texts(list(read(LOG, files=disk))) == ["Opened", "Opened", "b", "Closed"]
    assert log.opened.durability == "relaxed"


async def test_fetch_finds_every_event_of_every_segment() -> None:
    disk = Disk()
    await write_log(LOG, [1, 40, 3], files=disk, closed=True)
    await write_log(LOG, [1] * 50, files=disk)
    disk.handles.clear()
    log = await write_log(LOG, [100, 1, 2], files=disk)
    await log.append([said("x" * 100_000), said("last")])
    events = list(read(LOG, files=disk))
    assert [log.fetch(event.seq) for event in events] == events
    for seq in (0, -1, log.last_seq + 1):
        with pytest.raises(LookupError):
            log.fetch(seq)
    await log.close("ended")
    assert log.fetch(2) == events[1]
    assert not disk.handles


async def test_history_is_everything_before_this_epoch() -> None:
    disk = Disk()
    await write_log(LOG, [2], files=disk)
    log = await write_log(LOG, [1], files=disk, text="f")
    assert texts(list(log.history())) == ["Opened", "e2", "e3"]
    assert list(log.history()) == list(read(LOG, files=disk))[:3]


async def test_closing_twice_does_nothing_and_then_nothing_is_written() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    log.stage([said("staged")])
    await log.close("ended")
    await log.close("again")
    events = list(read(LOG, files=disk))
    assert texts(events) == ["Opened", "staged", "Closed"]
    assert events[-1].group == events[-2].group == 2
    with pytest.raises(LogTrouble, match="is closed"):
        log.stage([said("x")])
    with pytest.raises(LogTrouble, match="is closed"):
        await log.commit()


@pytest.mark.parametrize("durability", ["always", "relaxed"])
async def test_the_writer_may_stage_the_closing_event_itself(durability: Durability) -> None:
    disk = Disk()
    log = await open_log(LOG, disk, durability)
    log.stage([said("last"), ev.Closed(reason="ended")])
    await log.close()
    disk.power_cut()
    assert texts(list(read(LOG, files=disk))) == ["Opened", "last", "Closed"]
    with pytest.raises(LogTrouble, match="is closed"):
        log.stage([said("x")])


async def test_closing_is_not_left_half_done_when_cancelled() -> None:
    disk = Disk()
    log = await open_log(LOG, disk, "relaxed")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await log.close("stopped")
    disk.power_cut()
    assert texts(list(read(LOG, files=disk))) == ["Opened", "Closed"]


async def test_an_unknown_event_stops_a_leader_and_passes_a_reader() -> None:
    disk = Disk()
    await write_log(LOG, [1], files=disk)
    odd = finish(b'{"seq":3,"time":"t","epoch":1,"group":3,"type":"levitated","height":2', end=True)
    disk.put(segment(LOG, 1), disk.get(segment(LOG, 1)) + odd)
    assert texts(list(read(LOG, files=disk))) == ["Opened", "e2", "Unknown"]
    log = await open_log(LOG, disk)
    with pytest.raises(LogTooNew, match=r"event 3 \(levitated, version 1\)"):
        list(log.history())


async def test_a_first_line_of_a_newer_version_is_not_taken_for_damage_or_void() -> None:
    disk = Disk()
    line = finish(b'{"seq":1,"time":"t","epoch":1,"group":1,"v":2,"type":"opened","who":"?"', end=True)
    disk.put(segment(LOG, 1), line)
    with pytest.raises(LogTooNew, match="newer orch"):
        await open_log(LOG, disk)


async def test_many_events_in_one_log(tmp_path: Path) -> None:
    log = await Log.open(tmp_path, run="r1", machine=machine())
    for _ in range(20):
        await log.append([ev.Submitting(job=k, attempt=1, key=f"r1.{k}.1") for k in range(1, 251)])
    assert [event.seq for event in read(tmp_path)] == list(range(1, 5002))
    for seq in (1, 2, 17, 251, 252, 4999, 5000, 5001):
        assert log.fetch(seq).seq == seq
    await log.close("ended")
