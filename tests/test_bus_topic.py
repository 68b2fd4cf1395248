"""Publish and subscribe in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import anyio
import pytest
from support.logs import open_log, said, texts

from orch.bus import events as ev
from orch.bus.topic import Topic


async def take(events: AsyncIterator[ev.Event], count: int) -> list[str]:
    """What the next so many events say."""
    return texts([await anext(events) for _ in range(count)])


async def test_subscribers_begin_where_they_wish(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await log.append([said("a"), said("b")])
    topic = Topic(tmp_path, last_seq=log.last_seq)
    start, third, now = topic.subscribe(1), topic.subscribe(3), topic.subscribe()
    topic.publish(await log.append([said("c")]))
    later = topic.subscribe()
    topic.publish(await log.append([said("d")]))
    topic.close()
    assert [texts([event async for event in subscriber]) for subscriber in (start, third, now, later)] == [
        ["Opened", "a", "b", "c", "d"],
        ["b", "c", "d"],
        ["c", "d"],
        ["d"],
    ]
    await log.close("ended")


async def test_a_subscriber_waits_for_what_comes(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    topic = Topic(tmp_path, last_seq=1)
    seen: list[str] = []
    arrived = anyio.Event()

    async def subscriber() -> None:
        async for event in topic.subscribe():
            seen.extend(texts([event]))
            arrived.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(subscriber)
        for text in "abc":
            await anyio.wait_all_tasks_blocked()
            arrived = anyio.Event()
            topic.publish(await log.append([said(text)]))
            await arrived.wait()
        topic.close()
    assert seen == ["a", "b", "c"]
    await log.close("ended")


async def test_a_slow_subscriber_loses_nothing_and_costs_no_memory(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    read_from_disk: list[tuple[int, int]] = []

    def source(first: int, last: int) -> Iterable[ev.Event]:
        read_from_disk.append((first, last))
        return [log.fetch(seq) for seq in range(first, last + 1)]

    topic = Topic(tmp_path, last_seq=1, keep=10, source=source)
    slow = topic.subscribe(2)
    fast = topic.subscribe(2)
    topic.publish(await log.append([said("0")]))
    assert await take(slow, 1) == ["0"]
    for k in range(1, 100):
        topic.publish(await log.append([said(str(k))]))
        assert await take(fast, 1) == (["0"] if k == 1 else [str(k - 1)])
    assert read_from_disk == []
    assert len(topic._kept) == 10
    assert await take(slow, 99) == [str(k) for k in range(1, 100)]
    assert read_from_disk == [(3, 101)]
    await log.close("ended")


async def test_what_is_not_committed_is_not_read_from_disk(tmp_path: Path) -> None:
    """An event may be in the file before its commit is over; subscribers see it when it is published."""
    log = await open_log(tmp_path)
    topic = Topic(tmp_path, last_seq=1)
    events = topic.subscribe(1)
    await log.append([said("written, not published")])
    assert await take(events, 1) == ["Opened"]
    topic.close()
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    await log.close("ended")


async def test_many_subscribers_at_different_speeds(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    topic = Topic(tmp_path, last_seq=1, keep=7)
    results: list[list[int]] = []

    async def subscriber(pace: int) -> None:
        seen = []
        async for event in topic.subscribe(1):
            seen.append(event.seq)
            if event.seq % pace == 0:
                await anyio.lowlevel.checkpoint()
        results.append(seen)

    async with anyio.create_task_group() as tasks:
        for pace in (1, 2, 3, 50, 1000):
            tasks.start_soon(subscriber, pace)
        for k in range(60):
            topic.publish(await log.append([said(str(k))]))
        topic.close()
    assert results == [list(range(1, 62))] * 5
    await log.close("ended")


async def test_events_are_published_in_the_order_of_the_log(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    events = await log.append([said("a"), said("b")])
    topic = Topic(tmp_path, last_seq=1)
    with pytest.raises(ValueError, match="event 3 cannot be published after event 1"):
        topic.publish(events[1:])
    topic.publish(events)
    assert topic.last_seq == 3
    topic.publish([])
    await log.close("ended")


async def test_a_closed_topic_still_gives_what_there_was(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await log.append([said("a")])
    await log.close("ended")
    topic = Topic(tmp_path, last_seq=log.last_seq)
    topic.close()
    assert texts([event async for event in topic.subscribe(1)]) == ["Opened", "a", "Closed"]
    assert [event async for event in topic.subscribe()] == []
