"""Groups: how they are seen to be whole, and where very many events become several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.story import Story
from support.disk import Disk
from support.logs import LOG, machine, open_log, said, segment, without_sums, write_log

from orch.bus import events as ev
from orch.bus import log as log_module
from orch.bus.codec import event_of
from orch.bus.errors import Fenced
from orch.bus.groups import whole_groups
from orch.bus.log import LARGE, Log
from orch.bus.reader import read

BODY = b"x" * 3000


def added(first: int, count: int) -> list[ev.Event]:
    """New jobs, of some kilobytes each."""
    return [ev.Added(job=first + k, kind="k", body=ev.Blob(data=BODY, size=len(BODY))) for k in range(count)]


def groups(disk: Disk) -> list[tuple[int, int]]:
    """First and last number of each group."""
    found: dict[int, int] = {}
    for event in read(LOG, files=disk):
        found[event.group] = event.seq
    return list(found.items())


@given(sizes=st.lists(st.integers(1, 4), max_size=6), cut=st.integers(0, 3000), known=st.integers(0, 3000))
async def test_whole_groups_wherever_the_bytes_end(sizes: list[int], cut: int, known: int) -> None:
    disk = Disk()
    await write_log(LOG, sizes, files=disk)
    for data in (disk.get(segment(LOG, 1)), without_sums(disk.get(segment(LOG, 1)))):
        lines = data.splitlines(keepends=True)
        lengths = [0, *itertools.accumulate(map(len, lines))]
        ends = [k for k, line in enumerate(lines, 1) if b'"end":true' in line]
        whole = max((k for k in ends if lengths[k] <= cut), default=0)
        found = whole_groups(data[:cut], 1, min(known, cut, lengths[ends[0]] - 1))
        assert (found.length, found.next, found.broken) == (lengths[whole], whole + 1, False)
        assert whole_groups(data, 2).broken


async def test_what_only_guards_the_file_is_told_from_the_event() -> None:
    disk = Disk()
    await write_log(LOG, [2], files=disk)
    _, first, last = disk.get(segment(LOG, 1)).splitlines()
    assert event_of(first).endswith(b'"message":"e2"')
    assert b'"sum":"' in last
    assert event_of(last).endswith(b'"message":"e3"')


async def test_very_many_jobs_are_several_groups() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    writes: list[str] = []
    disk.before = lambda what, _path: writes.append(what) if what in {"write", "sync"} else None
    staged = log.stage([said("before"), *added(1, 1200), said("after")])
    await log.commit()
    assert [event.seq for event in staged] == list(range(2, 1204))
    assert writes == ["write", "sync"] * (len(groups(disk)) - 1), "each is durable before the next one is written"
    assert len(groups(disk)) > 3
    assert list(read(LOG, files=disk))[1:] == staged
    lines = disk.get(segment(LOG, 1)).splitlines(keepends=True)
    for first, last in groups(disk):
        assert sum(map(len, lines[first - 1 : last])) < 3 * LARGE
    assert [log.fetch(event.seq) for event in staged[::100]] == staged[::100]


async def test_only_new_jobs_are_several_groups() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    log.stage([said("x" * 3000) for _ in range(1200)])
    await log.commit()
    assert groups(disk) == [(1, 1), (2, 1201)]


async def test_a_leader_that_is_superseded_between_two_groups() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    writes = 0

    def take_over(what: str, _path: Path) -> None:
        nonlocal writes
        writes += what == "write"
        if writes == 3:
            disk.put(segment(LOG, 2), b"")

    disk.before = take_over
    log.stage(added(1, 1200))
    with pytest.raises(Fenced):
        await log.commit()
    disk.before = lambda _what, _path: None
    assert writes == 3
    new = await open_log(LOG, disk)
    found = [event.seq for event in new.history()]
    assert found == list(range(1, len(found) + 1))
    assert 1 < len(found) < 1201


async def test_events_that_come_one_after_the_other_are_not_kept(tmp_path: Path) -> None:
    log = await Log.open(tmp_path, run="r1", machine=machine())
    made, behind = 0, 0

    def make() -> Iterator[ev.Event]:
        nonlocal made
        for event in added(1, 2000):
            made += 1
            yield event

    async for events in log.append_many(make()):
        assert [event.seq for event in read(tmp_path, from_seq=events[0].seq)] == [event.seq for event in events]
        behind = max(behind, made - events[0].seq + 2)
    assert made == 2000 == log.last_seq - 1
    assert behind * len(BODY) < 2 * LARGE
    await log.close("left")


async def test_few_events_that_are_appended_as_many_are_one_group() -> None:
    disk = Disk()
    log = await open_log(LOG, disk)
    assert [len(events) async for events in log.append_many(iter(added(1, 3)))] == [3]
    assert [len(events) async for events in log.append_many([])] == []
    assert groups(disk) == [(1, 1), (2, 4)]


async def test_a_group_may_end_between_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "LARGE", 1000)
    disk = Disk()
    log = await open_log(LOG, disk)
    for events in (added(1, 1), added(2, 1), [said("x")], added(3, 1), [said("y")]):
        log.stage(events)
    await log.commit()
    assert groups(disk) == [(1, 1), (2, 2), (3, 6)]


@pytest.mark.parametrize("chunk", range(3))
def test_leaders_that_die_where_every_new_job_is_a_group(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they leave of a plan, or of what an attempt has made, counts for nothing, and nothing is lost."""
    monkeypatch.setattr(log_module, "LARGE", 1)
    monkeypatch.setattr(log_module, "_PORTION", 1)
    for seed in range(chunk, 60, 3):
        Story(seed).tell()
