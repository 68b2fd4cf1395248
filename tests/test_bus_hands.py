"""Threads for what blocks: as few as needed, none of which keeps anything."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import anyio
import pytest

from orch.bus.hands import Hands, hands
from orch.bus.machine import in_thread

WAIT = 10.0
"""Seconds after which a test has failed."""


async def test_what_it_gives_and_what_it_raises() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    assert await in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_a_loop_has_its_own() -> None:
    here = hands()
    assert hands() is here

    async def others() -> Hands:
        assert await in_thread(len, "abc") == 3
        return hands()

    assert await anyio.to_thread.run_sync(asyncio.run, others()) is not here


async def test_there_are_no_more_threads_than_allowed_and_all_work_at_once() -> None:
    some = Hands(most=3)
    names: set[int] = set()
    together = threading.Barrier(3, timeout=WAIT)

    def meet() -> None:
        names.add(threading.get_ident())
        together.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(some.run, meet)
    assert len(names) == 3


async def test_one_after_the_other_needs_one_thread() -> None:
    some = Hands()
    assert len({await some.run(threading.get_ident) for _ in range(20)}) == 1


async def test_many_results_at_once_come_to_whoever_waits() -> None:
    some = Hands(most=4)
    found: dict[int, int] = {}

    async def square(k: int) -> None:
        found[k] = await some.run(lambda: k * k)

    async with anyio.create_task_group() as tasks:
        for k in range(2000):
            tasks.start_soon(square, k)
    assert found == {k: k * k for k in range(2000)}


async def test_who_is_cancelled_waits_for_the_end() -> None:
    some, begun, ended = Hands(), threading.Event(), threading.Event()
    go_on = threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(WAIT)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(some.run, work)
        await anyio.to_thread.run_sync(begun.wait, WAIT)
        tasks.cancel_scope.cancel()
        go_on.set()
    assert ended.is_set()


def test_threads_that_have_nothing_to_do_leave() -> None:
    async def work() -> list[threading.Thread]:
        some = Hands(idle=0.01)
        return [await some.run(threading.current_thread) for _ in range(3)]

    for thread in asyncio.run(work()):
        thread.join(WAIT)
        assert not thread.is_alive()


def test_a_loop_that_is_gone_is_not_kept() -> None:
    async def work() -> weakref.ref[asyncio.AbstractEventLoop]:
        await in_thread(len, "abc")
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(work())
    gc.collect()
    assert loop() is None


def test_what_ends_after_its_loop_disturbs_nobody() -> None:
    begun, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        begun.set()
        assert go_on.wait(WAIT)

    some = Hands(idle=0.01)
    loop = asyncio.new_event_loop()
    task = loop.create_task(some.run(work))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert begun.wait(WAIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    go_on.set()
    threads[0].join(WAIT)
    assert not threads[0].is_alive()
