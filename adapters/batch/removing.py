"""Has tasks ended by the batch system, and goes on having them ended until it does not have them any more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

from orch.adapters.batch.calls import Calls
from orch.adapters.batch.dialect import Answer, Dialect, Stage, Trouble
from orch.adapters.batch.records import NEVER, Task

AGAIN = 15.0
AGAIN_AT_MOST = 240.0
"""Seconds after which a task that is there still is cancelled again: at first, and at most."""

THERE = (Stage.QUEUED, Stage.HELD, Stage.RUNNING, Stage.STRANGE)
"""Where to cancel does something. What is ending already is let be."""


class Removing:
    """Of one batch system, for all runs."""

    def __init__(self, dialect: Dialect, calls: Calls) -> None:
        self._dialect = dialect
        self._calls = calls
        self._tasks: set[Task] = set()
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def remove(self, tasks: Iterable[Task]) -> None:
        """Have these ended: at once, or as soon as it is known what they are called."""
        now = time.monotonic()
        for task in tasks:
            if task.cancel_at == NEVER:
                task.cancel_at = now
                self._tasks.add(task)
                self._idle.clear()
        self._woken.set()

    def wake(self) -> None:
        """What some are called is known now."""
        self._woken.set()

    async def run(self) -> None:
        """Do it, for ever."""
        while True:
            self._woken.clear()
            now = time.monotonic()
            self._tasks = {task for task in self._tasks if _matters(task)}
            due = [task for task in self._tasks if task.submission.job and task.cancel_at <= now]
            if due:
                await self._cancel(due)
                continue
            if not any(task.submission.job and not task.cancels for task in self._tasks):
                self._idle.set()
            wait = min((task.cancel_at for task in self._tasks if task.submission.job), default=now + AGAIN) - now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def flush(self, seconds: float) -> None:
        """Wait until all have been cancelled once, but no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    async def _cancel(self, tasks: list[Task]) -> None:
        """Say it. After trouble `Calls` takes care that it is not said again too soon."""
        size = max(1, self._dialect.most_asked)
        for part in (tasks[first : first + size] for first in range(0, len(tasks), size)):
            commands = self._dialect.cancel([task.id for task in part])
            with contextlib.suppress(Trouble):
                await self._calls.ask("cancel", commands, self._heard)
                now = time.monotonic()
                for task in part:
                    task.cancel_at = now + min(AGAIN * 2**task.cancels, AGAIN_AT_MOST)
                    task.cancels += 1

    def _heard(self, answers: list[Answer]) -> None:
        for answer in answers:
            self._dialect.cancelled(answer)


def _matters(task: Task) -> bool:
    """Is there anything to end, as far as is known?"""
    if task.cancel_at == NEVER or not task.cancels:
        return task.cancel_at != NEVER
    if task.submission.left:
        return False
    return not task.gone and not task.absent and (task.seen is None or task.seen.stage in THERE)
