"""After a restart: which submissions of earlier leaders are here, and where their attempts stand. Files say it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from orch.adapters.batch.board import Board
from orch.adapters.batch.engine import Engine
from orch.adapters.batch.handing import SURELY_VISIBLE, Handing
from orch.adapters.batch.records import Owner, Submission, Task
from orch.adapters.contract import Unknown, Update
from orch.bus.hands import hands
from orch.worker.spool import Header, Spool, Ticket

Number = tuple[int, int]


class Old(NamedTuple):
    """A submission as its files have it."""

    name: str
    header: Header
    job: str


READ_AGAIN = (0.1, 1.0, 5.0)
"""Seconds after which a file is tried again that cannot be read now."""


class Adopting:
    """Of one run."""

    def __init__(
        self, engine: Engine, spool: Spool, board: Board, handing: Handing, owner: Owner, tell: Callable[[Update], None]
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._board = board
        self._handing = handing
        self._owner = owner
        self._tell = tell
        self._ask = 0  # the latest question
        self._unsettled: set[str] = set()  # submissions
        self._reading = asyncio.Lock()

    async def adopt(self, keys: Sequence[str], ask: int) -> list[Submission]:
        """Say of each key where it stands, and end what is not named.

        Returns submissions with attempts that are named, of which it is not known whether the batch system has them:
        those are still to be settled. What waits for that from an earlier question is answered then.
        """
        self._ask = ask
        async with self._reading:  # a question may come while another is looked into
            return await self._adopt(keys, ask)

    async def _adopt(self, keys: Sequence[str], ask: int) -> list[Submission]:
        known = {key: None for key in keys if key in self._board.tasks or self._handing.has(key)}
        for key in known:
            task = self._board.tasks.get(key)
            if task is None or task.claim is not None or task.submission.name not in self._unsettled:
                self._handing.standing(key)
        new = [key for key in keys if key not in known]
        found = await hands().run(self._read, frozenset(self._board.submissions))
        self._handing.begin_after([old.name for old in found])
        wanted = _newest(found, frozenset(new))
        for key in new:
            if key not in wanted:
                self._tell(Unknown(key, ask))
        submissions = [self._submission(old, wanted) for old in found]
        await self._end_others(submissions)
        await hands().run(self._count, [task for each in submissions for task in each.tasks if task.wanted])
        unsettled = [each for each in submissions if not each.job]
        self._unsettled.update(each.name for each in unsettled)
        for each in submissions:
            if each.job:
                self._handing.taken(each, since=0.0)
        return unsettled

    async def settle(self, submission: Submission) -> None:
        """Find out whether the batch system has it. If not, no worker will ever: it may be handed over again."""
        while not submission.job:
            submission.job = await self._engine.searching.search(submission.order, submission.made)
            old = max(SURELY_VISIBLE, self._engine.dialect.lag) - abs(time.time() - submission.made)
            if submission.job or old <= 0:
                break
            await asyncio.sleep(min(old, SURELY_VISIBLE))
        if submission.job:
            await hands().run(self._spool.write_id, submission.name, submission.job)
            self._unsettled.discard(submission.name)
            self._handing.taken(submission, since=0.0)
            return
        left = await self._handing.revoke(submission)
        self._unsettled.discard(submission.name)
        for task in left:
            self._tell(Unknown(task.key, self._ask))
        self._engine.stray(submission)

    def _read(self, known: frozenset[str]) -> list[Old]:
        """Those that are not known yet, the oldest first."""
        names = [name for name in self._spool.submissions() if name not in known and _number(name) is not None]
        found = []
        for name in sorted(names, key=_must_number):
            old = self._old(name)
            if old is not None:
                found.append(old)
        return found

    def _old(self, name: str) -> Old | None:
        """One of them; None: it is being cleared up, or was never whole, and nothing was done with it.

        What a file server cannot give now is not taken for nothing: its attempts may run. Raises `OSError`.
        """
        for wait in (*READ_AGAIN, None):
            try:
                return Old(name, self._spool.header(name), self._spool.read_id(name))
            except (FileNotFoundError, ValueError):
                return None
            except OSError:
                if wait is None:
                    raise
                time.sleep(wait)  # in a thread
        return None

    def _submission(self, old: Old, wanted: dict[str, str]) -> Submission:
        submission = Submission(old.name, old.header.name, old.header.made, self._spool, self._owner, job=old.job)
        for index, key in enumerate(old.header.keys or [""], 1):
            task = Task(key, Ticket(old.name, index), submission, wanted=wanted.get(key) == old.name)
            task.acked = not task.wanted
            submission.tasks.append(task)
        self._board.add(submission)
        return submission

    def _count(self, tasks: list[Task]) -> None:
        """What they have counts, if anything does."""
        if self._handing.limits.any:
            for task in tasks:
                _, attempt = self._spool.order(task.ticket)
                if attempt is not None:
                    self._handing.limits.take(task.key, attempt.resources)

    async def _end_others(self, submissions: list[Submission]) -> None:
        """What nobody wants never begins; what runs of it is ended as soon as the batch system is seen to have it."""
        others = [task for each in submissions for task in each.tasks if not task.wanted]
        claims = await hands().run(self._spool.revoke, [task.ticket for task in others])
        for task in others:
            if task.ticket not in claims:
                self._board.revoked(task)


def _newest(found: list[Old], asked: frozenset[str]) -> dict[str, str]:
    """Of each key that is asked for, the last submission that has it."""
    return {key: old.name for old in found for key in old.header.keys if key in asked}


def _number(name: str) -> Number | None:
    epoch, _, number = name.partition("-")
    return (int(epoch), int(number)) if epoch.isdecimal() and number.isdecimal() else None


def _must_number(name: str) -> Number:
    found = _number(name)
    assert found is not None
    return found
