"""Asks the batch system what it has: for all runs at once, seldom, and only while there is anything to ask about.

That something is not in an answer means nothing by itself. What has vanished is looked for among the outcomes, and only
what has none there is asked for in the batch system's records.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar

from orch.adapters.batch.calls import Calls
from orch.adapters.batch.dialect import Dialect, Seen, Trouble
from orch.adapters.batch.pace import Rhythm
from orch.adapters.batch.records import Submission, Task

LEAST = 8.0
MOST = 60.0
"""Seconds between looks, while things change and while they do not: files tell of most changes."""

SOON = 4.0
"""Seconds until the first look, and between looks while somebody waits for an answer."""

VISIBLE = 2.0
"""Seconds for which what was just handed over need not be in an answer, whatever the dialect says."""

WINDOW = 3600.0
"""Seconds before a submission was made from which on records of it are asked for: clocks of hosts differ."""

T = TypeVar("T")


class Watch:
    """Of one batch system. `fixed`: the interval (seconds) that the user wants; 0: adaptive."""

    def __init__(self, dialect: Dialect, calls: Calls, fixed: float = 0.0) -> None:
        self._dialect = dialect
        self._calls = calls
        self._fixed = fixed
        self._rhythm = Rhythm(LEAST, MOST, fixed=fixed)
        self._watched: dict[str, Submission] = {}
        self._woken = asyncio.Event()
        self._hurried = False
        self._next = 0.0
        self._last = 0.0

    @property
    def interval(self) -> float:
        """Seconds between looks, now."""
        return self._rhythm.interval

    def add(self, submission: Submission, *, at_once: bool = False) -> None:
        """Ask about this one from now on: what it is called is known. `at_once`: nobody here knows how it stands."""
        if at_once:
            self._next = min(self._next, time.monotonic())
        elif not self._watched:
            self._rhythm.hurry()
            self._next = time.monotonic() + min(SOON, self._rhythm.interval)
        self._watched[submission.order] = submission
        self._woken.set()

    def remove(self, submission: Submission) -> None:
        """Ask no more."""
        self._watched.pop(submission.order, None)

    def hurry(self) -> None:
        """Somebody waits for what the next look says."""
        self._hurried = True
        if not self._fixed:
            self._rhythm.hurry()
            self._next = min(self._next, max(time.monotonic(), self._last + min(SOON, LEAST)))
            self._woken.set()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self._woken.clear()
            submissions = self._due()
            if not submissions:
                await self._woken.wait()
            elif (wait := self._next - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._woken.wait()
            else:
                self._last = time.monotonic()
                self._hurried = False
                changed = await self._look(submissions)
                self._next = time.monotonic() + self._rhythm.look(changed=changed)
                if self._hurried:  # meanwhile: what was asked before may not tell
                    self.hurry()

    def _due(self) -> list[Submission]:
        """Those of which the batch system may have something."""
        found = [each for each in self._watched.values() if any(not task.gone for task in each.tasks)]
        self._watched = {each.order: each for each in found}
        return found

    async def _look(self, submissions: list[Submission]) -> bool:
        """Ask about all of them; has anything changed?"""
        started = time.monotonic()
        answer: dict[str, Seen] = {}
        try:
            for part in _parts([each.job for each in submissions], self._dialect.most_asked):
                answer.update(await self._calls.ask("look", self._dialect.look(part), self._dialect.seen))
        except Trouble:
            return True  # nothing is known: it is asked again as soon as `Calls` lets that through
        live = [task for each in submissions for task in each.live]
        names = {task: task.id for task in live}
        there = [task for task in live if names[task] in answer]
        changed = [_told(task, answer[names[task]]) for task in there]
        old = started - max(self._dialect.lag, VISIBLE)
        vanished = [task for task in live if names[task] not in answer and task.submission.handed < old]
        unclear = [task for task in there if task.wanted and task.unclear]
        changed.append(await self._explain([*vanished, *unclear]))
        for owner in {each.owner for each in submissions}:
            owner.looked()
        return any(changed)

    async def _explain(self, tasks: list[Task]) -> bool:
        """What the batch system does not have any more, or does not say enough about."""
        if not tasks:
            return False
        for owner in {task.submission.owner for task in tasks}:
            await owner.check([task for task in tasks if task.submission.owner is owner])
        left = [task for task in tasks if not task.gone]
        changed = [task.submission.owner.missed(task, surely=False) for task in left if not task.wanted]
        wanted = [task for task in left if task.wanted]
        for part in _parts(wanted, self._dialect.most_asked):
            with contextlib.suppress(Trouble):
                changed += await self._recall(part)
        return any(changed)

    async def _recall(self, tasks: Sequence[Task]) -> list[bool]:
        since = min(task.submission.made for task in tasks) - WINDOW
        names = {task: task.id for task in tasks}
        commands = self._dialect.recall(list(names.values()), since)
        answer: dict[str, Seen] = {}
        if commands:
            answer = await self._calls.ask("recall", commands, self._dialect.recalled)
        return [
            _told(task, answer[name]) if name in answer else task.submission.owner.missed(task, surely=True)
            for task, name in names.items()
            if not task.gone
        ]


def _told(task: Task, seen: Seen) -> bool:
    return task.submission.owner.saw(task, seen)


def _parts(items: Sequence[T], most: int) -> Iterable[Sequence[T]]:
    size = max(1, most)
    return (items[first : first + size] for first in range(0, len(items), size))
