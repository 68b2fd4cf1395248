"""What all runs of an Orchestrator share with one batch system: its commands, the watch over it, what there is."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Coroutine
from typing import Any

from orch.adapters.batch.calls import Calls
from orch.adapters.batch.choices import Choices
from orch.adapters.batch.dialect import Dialect, Room, Trouble
from orch.adapters.batch.records import Submission, Task
from orch.adapters.batch.removing import Removing
from orch.adapters.batch.searching import Searching
from orch.adapters.batch.watch import Watch
from orch.errors import UserError

SURVEY_WITHIN = 10.0
"""Seconds for which a run waits to hear what there is, before it begins without."""

SURVEY_AGAIN = 600.0
"""Seconds until that is asked again."""

FLUSH_WITHIN = 5.0
"""Seconds in which what is to be removed is told to the batch system before this process leaves."""

STRAY_AFTER = (10.0, 60.0, 300.0)
"""Seconds after which a submission that the batch system does not have is looked for again, to be removed."""

ORPHANS_AFTER = (10.0, 60.0)
"""The same where a worker has begun with it all the same, and has not left an outcome; the last again and again."""

GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL that workers would like to have."""

Fail = Callable[[Exception], None]


class Engine:
    """Of one batch system with one set of options. Everything in it runs in one loop, from `open` to `close`."""

    grace = GRACE

    def __init__(self, name: str, dialect: Dialect, choices: Choices) -> None:
        self.name = name
        self.dialect = dialect
        self.choices = choices
        self.calls = Calls(name, self.say, choices.call_timeout)
        self.watch = Watch(dialect, self.calls, choices.poll_interval)
        self.removing = Removing(dialect, self.calls)
        self.searching = Searching(dialect, self.calls)
        self.room = Room()
        self.hearers: dict[Callable[[str], None], Fail] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._surveyed = asyncio.Event()
        self._failure: Exception | None = None

    async def open(self) -> None:
        """Begin. Raises `UserError` where its programs are not on this host, or settings make no sense."""
        self.dialect.check()
        self._must_be_here()
        for work in (self.watch.run, self.removing.run, self.searching.run, self._survey):
            self.spawn(work())
        await self.surveyed()

    async def surveyed(self) -> None:
        """Wait for a while until it is known what there is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SURVEY_WITHIN):
                await self._surveyed.wait()

    async def close(self) -> None:
        """Say what is to be removed; end what this has started. What the batch system has goes on."""
        await self.removing.flush(FLUSH_WITHIN)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hear(self, say: Callable[[str], None], fail: Fail) -> None:
        """A run wants to be told what is said from now on, and if this ends by mistake."""
        self.hearers[say] = fail
        if self._failure is not None:
            fail(self._failure)

    def say(self, text: str) -> None:
        """Tell all runs."""
        for each in list(self.hearers):
            each(text)

    def stray(self, submission: Submission) -> None:
        """Look for this one later, and see to it that it goes: the batch system says that it does not have it.

        Where a worker has begun with a task, its outcome is waited for; each look that finds nothing is an answer that
        does not have it, so it is given up as what the batch system has forgotten.
        """
        self.spawn(self._look_for(submission))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; what goes wrong with it ends all runs, with that as the reason."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._failure = error
            for fail in list(self.hearers.values()):
                fail(error)

    def _must_be_here(self) -> None:
        """Raises `UserError` for a program that is missing at the very beginning; later that is trouble."""
        for command in (*self.dialect.survey(), *self.dialect.look(["0"])):
            path = command.env.get("PATH")
            if shutil.which(command.argv[0], path=path) is None:
                raise UserError(
                    f"{self.name} cannot be used here: there is no program {command.argv[0]!r} on this host (is a "
                    "module to be loaded, or PATH to be set?); --adapter chooses another batch system, local needs none"
                )

    async def _survey(self) -> None:
        while commands := self.dialect.survey():
            wait = 0.0  # after trouble `Calls` takes care that it is not asked too soon
            with contextlib.suppress(Trouble):
                self.room = await self.calls.ask("survey", commands, self.dialect.room)
                wait = SURVEY_AGAIN
            self._surveyed.set()
            await asyncio.sleep(wait)
        self._surveyed.set()

    async def _look_for(self, submission: Submission) -> None:
        looks = 0
        while (begun := _begun(submission)) or looks < len(STRAY_AFTER):
            waits = ORPHANS_AFTER if begun else STRAY_AFTER
            await asyncio.sleep(waits[min(looks, len(waits) - 1)])
            looks += 1
            job = submission.job or await self.searching.search(submission.order, submission.made)
            if job:
                submission.job = job
                submission.owner.turned_up(submission)
                return
            if begun := _begun(submission):
                await submission.owner.check(begun)
            for task in _begun(submission):
                submission.owner.missed(task, surely=True)


def _begun(submission: Submission) -> list[Task]:
    """Its tasks whose end is waited for."""
    return [] if submission.left else [task for task in submission.tasks if task.wanted]
