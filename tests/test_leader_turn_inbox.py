"""The inbox: many say something, one takes it a turn at a time."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orch.leader.inbox import Inbox


async def test_all_that_has_come_is_taken_at_once_and_in_order() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.put([1, 2])
    inbox.put([])
    inbox.put([3])
    assert await inbox.take() == [1, 2, 3]


async def test_taking_waits() -> None:
    inbox: Inbox[int] = Inbox()
    taken: list[list[int]] = []

    async def take() -> None:
        taken.extend([await inbox.take(), await inbox.take()])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        for _ in range(5):
            await checkpoint()
        assert taken == []
        inbox.put([1])
        for _ in range(5):
            await checkpoint()
        inbox.put([2])
    assert taken == [[1], [2]]


async def test_putting_nothing_is_a_reason_for_a_turn() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.put([])
    assert await inbox.take() == []


async def test_an_error_comes_after_what_came_before_it() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.put([1])
    inbox.fail(RuntimeError("gone"))
    assert await inbox.take() == [1]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="gone"):
            await inbox.take()


async def test_what_comes_after_the_error_is_still_taken_first() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.fail(RuntimeError("gone"))
    inbox.put([1])
    assert await inbox.take() == [1]
    with pytest.raises(RuntimeError, match="gone"):
        await inbox.take()


async def test_a_cancelled_taker_loses_nothing() -> None:
    inbox: Inbox[int] = Inbox()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await inbox.take()
    inbox.put([1])
    assert await inbox.take() == [1]
