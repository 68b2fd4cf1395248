"""Being woken by changes in a directory, and reading a log in a process that does nothing else."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from support.logs import said, texts

from orch.bus import watch as module
from orch.bus.events import Event
from orch.bus.log import Log
from orch.bus.tail import SOON, follow, follow_here
from orch.bus.watch import Watch

LONG = 3600.0


def test_a_change_ends_a_wait(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    (tmp_path / "one").touch()
    watch.wait(LONG)
    with open(tmp_path / "one", "a") as file:
        file.write("more")
    watch.wait(LONG)
    watch.close()
    watch.close()


def test_a_change_that_was_before_the_last_wait_ended_is_none(tmp_path: Path) -> None:
    watch = Watch(tmp_path, plain=0.001)
    (tmp_path / "one").touch()
    watch.wait(0.0)  # not cut short; what changed before its end is looked at now
    waits = threading.Thread(target=watch.wait, args=[LONG], daemon=True)
    waits.start()
    waits.join(0.05)
    assert waits.is_alive()
    (tmp_path / "two").touch()
    waits.join(60)
    assert not waits.is_alive()
    watch.close()


async def test_also_while_a_loop_goes_on(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.sleep, LONG)
        await anyio.lowlevel.checkpoint()
        (tmp_path / "one").touch()
    watch.close()


def test_a_directory_that_comes_later_is_watched_then(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "later")
    watch.wait(0.0)
    (tmp_path / "later").mkdir()
    watch.wait(0.0)
    (tmp_path / "later" / "one").touch()
    watch.wait(LONG)
    watch.close()


async def test_where_there_are_no_more_of_them_waits_are_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        @staticmethod
        def inotify_init1(_flags: int) -> int:
            return -1  # EMFILE

    monkeypatch.setattr(module, "_libc", Full)
    watch = Watch(tmp_path)
    watch.wait(0.0)
    await watch.sleep(0.0)
    watch.close()


def test_it_holds_one_descriptor_and_gives_it_back(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    Watch(tmp_path).close()
    assert os.listdir("/proc/self/fd") == before


# Logs --------------------------------------------------------------------------------------------------------------


def test_a_log_is_followed_as_it_is_written(tmp_path: Path) -> None:
    """By somebody who asks for nothing: each batch is written once the one before it was read."""

    def write(*words: str) -> None:
        async def whole() -> None:
            log = await Log.open(tmp_path, run="r")
            await log.append([said(word) for word in words])

        anyio.run(whole)

    write("a")
    seen: list[Event] = []
    done: list[str] = []

    def idle() -> bool:
        if not done:
            done.append("b")
            write("b")
        return len(seen) == 4

    for events in follow_here(tmp_path, idle=idle):
        seen += events
    assert texts(seen) == ["Opened", "a", "Opened", "b"]


async def test_the_kernel_tells_a_follower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With waits that would last for an hour, it sees what is written all the same."""
    monkeypatch.setattr("orch.bus.tail.LATE", LONG)
    monkeypatch.setattr("orch.bus.tail.SOON", SOON / 10)
    log = await Log.open(tmp_path, run="r")
    seen: list[Event] = []
    more = anyio.Event()

    async def read() -> None:
        async for events in follow(tmp_path):
            seen.extend(events)
            more.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for number in range(20):
            await more.wait()
            more = anyio.Event()
            await log.append([said(str(number))])
        await more.wait()
        tasks.cancel_scope.cancel()
    await log.close("ended")
    assert texts(seen) == ["Opened", *map(str, range(20))]
