"""One run's connection to a batch system: what the leader says comes in here, and what it is to know goes out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

from orch.adapters.batch import endings
from orch.adapters.batch.adopting import Adopting
from orch.adapters.batch.board import Board
from orch.adapters.batch.captured import head_and_tail
from orch.adapters.batch.dialect import Seen
from orch.adapters.batch.engine import Engine
from orch.adapters.batch.handing import Handing
from orch.adapters.batch.news import News
from orch.adapters.batch.records import Submission, Task
from orch.adapters.contract import Capacity, Finished, RunInfo, Said, Update
from orch.attempt import Attempt
from orch.bus.events import INLINE_LIMIT
from orch.bus.files import REAL
from orch.bus.hands import hands
from orch.bus.segment import epochs
from orch.environment import packed
from orch.errors import AdapterError, Fenced
from orch.store import layout
from orch.worker.spool import Spool

UNKNOWN_CORES = 2.0**20
UNKNOWN_SIZE = 1 << 62
"""What there is where nobody says: the batch system will refuse what is too much."""


class BatchSession:
    """Of one run. `BatchAdapter.open` makes it."""

    def __init__(self, info: RunInfo, engine: Engine) -> None:
        self._info = info
        self._engine = engine
        self._spool = Spool(info.store, info.run)
        self._board = Board(
            tell=self._tell,
            say=self._say,
            remove=engine.removing.remove,
            hurry=engine.watch.hurry,
            added=lambda: self._news.wake(),  # noqa: PLW0108 - there is none yet
            lag=engine.dialect.lag,
            missing_after=engine.choices.missing_after,
        )
        self._news = News(self._spool, self._board, self._say)
        self._handing = Handing(
            info, engine, self._spool, self._board, self, tell=self._tell, fenced=lambda: check_epoch(info)
        )
        self._adopting = Adopting(engine, self._spool, self._board, self._handing, self, self._tell)
        self._updates: list[Update] = []
        self._changed = False
        self._arrived = asyncio.Event()
        self._asked = False
        self._found = asyncio.Event()
        self._trouble: Exception | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: dict[str, str] = {}
        self._writing = False

    async def open(self) -> None:
        """Have the files for it. Raises `Fenced`, `OSError`."""
        await hands().run(self._prepare)
        self._engine.hear(self._say, self._fail)
        self._spawn(self._work())

    def _prepare(self) -> None:
        check_epoch(self._info)
        self._spool.make()
        self._spool.write_environment(self._info.epoch, packed(self._info.environment_abroad()))

    async def _work(self) -> None:
        """Nothing is done before it is known what earlier leaders have left."""
        await self._found.wait()
        self._spawn(self._handing.run(self._spawn))
        self._spawn(self._news.run())

    # The contract ---------------------------------------------------------------------------------------------

    async def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand over attempts; of those that are known it is said again where they stand."""
        if not self._asked:
            self._asked = True
            self._spawn(self._begin())
        new = []
        for attempt in attempts:
            if attempt.key in self._board.tasks or self._handing.has(attempt.key):
                self._handing.standing(attempt.key)
            else:
                new.append(attempt)
        self._handing.add(new)

    async def cancel(self, keys: Sequence[str]) -> None:
        """Have attempts ended. One that no worker has yet ends at once, and is removed in the background."""
        self._spawn(self._cancel(keys))

    async def _cancel(self, keys: Sequence[str]) -> None:
        await self._found.wait()
        tasks = []
        for key in keys:
            task = self._board.tasks.get(key)
            if task is None:
                self._handing.waiting.pop(key, None)
                self._tell(Finished(key, endings.on_request(key)))
                continue
            self._board.ask(task)
            if task.wanted:
                tasks.append(task)
        if tasks:
            await self._end(tasks)

    async def _end(self, tasks: list[Task]) -> None:
        claims = await hands().run(self._spool.revoke, [task.ticket for task in tasks])
        for task in tasks:
            task.claim = claims.get(task.ticket)
            if task.claim is None:
                self._board.revoked(task)
        self._engine.removing.remove(task for task in tasks if task.wanted)
        self._news.wake()

    async def stop_services(self, keys: Sequence[str]) -> None:
        """Have services stop by themselves."""
        self._spawn(self._ask_to_stop(keys))

    async def _ask_to_stop(self, keys: Sequence[str]) -> None:
        await self._found.wait()
        self._handing.stop.update(key for key in keys if self._handing.has(key))
        tasks = [task for task in map(self._board.tasks.get, keys) if task is not None]

        def ask() -> None:
            for task in tasks:
                self._spool.ask_to_stop(task.ticket)

        await hands().run(ask)

    async def limit(self, cores: float, memory: int, disk: int) -> None:
        """What the run may have in the batch system at once; what is there goes on."""
        limits = self._handing.limits
        limits.cores, limits.memory, limits.disk = cores, memory, disk
        self._handing.wake()
        self._changed = True
        self._arrived.set()

    async def acknowledge(self, keys: Sequence[str]) -> None:
        """What is left of these is removed soon."""
        for key in keys:
            task = self._board.tasks.get(key)
            if task is not None:
                self._board.acknowledged(task)

    async def find(self, keys: Sequence[str], ask: int = 0) -> None:
        """Ask about attempts; all others of this run are ended."""
        self._asked = True
        self._spawn(self._find(keys, ask))

    async def _begin(self) -> None:
        """Nobody asks what earlier leaders have left: then only their numbers are not used again."""
        self._handing.begin_after(await hands().run(self._spool.submissions))
        self._found.set()

    async def _find(self, keys: Sequence[str], ask: int) -> None:
        unsettled = await self._adopting.adopt(keys, ask)
        self._found.set()
        self._news.read_again()
        for submission in unsettled:
            self._spawn(self._adopting.settle(submission))

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Batches of updates. Raises `Fenced`, and whatever else has ended this session."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._updates or self._changed:
                batch, self._updates, self._changed = self._updates, [], False
                yield batch
            if self._trouble is not None:
                raise self._trouble
            if self._closed:
                return

    def capacity(self) -> Capacity:
        """What one attempt can be given, as far as that is known, and how many may be there at once."""
        room, limits, choices = self._engine.room, self._handing.limits, self._engine.choices
        there = Capacity(
            cores=room.node_cores or UNKNOWN_CORES,
            memory=max(0, room.node_memory - choices.overhead) if room.node_memory else UNKNOWN_SIZE,
            disk=UNKNOWN_SIZE,
            accelerators=room.accelerators,
            elastic=True,
            most=choices.max_queued,
            unsure=not room.accelerators,
        )
        if not limits.any:
            return there
        return Capacity(
            cores=min(there.cores, limits.cores or there.cores),
            memory=min(there.memory, limits.memory or there.memory),
            disk=min(there.disk, limits.disk or there.disk),
            accelerators=there.accelerators,
            elastic=True,
            most=there.most,
            unsure=there.unsure,
            beyond=there,
        )

    def stand_still(self, *, waits: bool) -> None:
        """Other runs are not what this one waits for: there is a queue."""

    async def describe(self, key: str) -> str:
        """What the batch system says of an attempt; or why it says nothing."""
        task = self._board.tasks.get(key)
        if task is None:
            return self._engine.calls.trouble or ("not handed over yet" if self._handing.has(key) else "")
        return self._why(task)

    def _why(self, task: Task) -> str:
        seen = task.seen
        if seen is not None:
            return f"{seen.word} ({seen.why})" if seen.why else seen.word
        return self._engine.calls.trouble or ("handed over" if task.submission.job else "being handed over")

    async def output(self, key: str) -> tuple[bytes, bytes]:
        """What an attempt has written so far."""
        task = self._board.tasks.get(key)
        if task is None:
            return b"", b""
        return await hands().run(self._output, task)

    def _output(self, task: Task) -> tuple[bytes, bytes]:
        out, err = (self._spool.path("output", f"{task.ticket}{ending}") for ending in (".out", ".err"))
        return head_and_tail(out, INLINE_LIMIT)[0], head_and_tail(err, INLINE_LIMIT)[0]

    async def close(self) -> None:
        """Let go. What the batch system has goes on, but for what is to be removed."""
        if not self._closed:
            self._closed = True
            self._arrived.set()
            self._engine.hearers.pop(self._say, None)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._leave()
            for submission in self._board.submissions.values():
                submission.left = True
                self._engine.watch.remove(submission)

    async def _leave(self) -> None:
        """Where nothing is wanted any more, nothing stays. What is to be removed is said first."""
        if self._board.active or self._trouble is not None or not self._found.is_set():
            return
        await self._engine.removing.flush(LEAVE_WITHIN)
        await self._news.clear(last=True)
        with contextlib.suppress(OSError):
            await hands().run(self._spool.leave)

    # What the engine says (`orch.adapters.batch.records.Owner`) -------------------------------------------------

    def task_id(self, job: str, index: int, size: int) -> str:
        """As in `Dialect.task`."""
        return self._engine.dialect.task(job, index, size)

    def saw(self, task: Task, seen: Seen) -> bool:
        """The batch system says this of a task."""
        return self._board.saw(task, seen)

    def missed(self, task: Task, *, surely: bool) -> bool:
        """The batch system knows nothing of it."""
        new = self._board.missed(task, surely=surely)
        if self._board.waits:
            self._news.wake()
        return new

    async def check(self, tasks: Sequence[Task]) -> None:
        """Take in their outcomes, if there are any."""
        with contextlib.suppress(OSError):  # the news of the run say so, and try again
            await self._news.check(tasks)

    def turned_up(self, submission: Submission) -> None:
        """It is there after all: it goes."""
        if self._closed:
            return
        for task in submission.tasks:
            task.gone = task.gone and task.claim is not None
        if submission.name not in self._board.submissions:
            self._board.add(submission)
        self._handing.taken(submission)

    def looked(self) -> None:
        """Write down why what waits does wait, for whoever asks on another host; and look at what has ended."""
        if self._closed:
            return
        if self._board.waits:
            self._news.wake()
        pending = {
            key: self._why(task)
            for key, task in self._board.tasks.items()
            if task.wanted and task.claim is None and task.seen is not None
        }
        if pending != self._pending and not self._writing:
            self._pending = pending
            self._writing = True
            self._spawn(self._write_pending(pending))

    async def _write_pending(self, pending: dict[str, str]) -> None:
        try:
            with contextlib.suppress(OSError):  # it is for people who ask: they hear less now
                await hands().run(self._spool.write_pending, json.dumps(pending, ensure_ascii=False))
        finally:
            self._writing = False

    # Inside -----------------------------------------------------------------------------------------------------

    def _tell(self, update: Update) -> None:
        if isinstance(update, Finished):
            self._handing.ended(update.outcome.key)
        self._updates.append(update)
        self._arrived.set()

    def _say(self, text: str) -> None:
        self._tell(Said(text))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; what goes wrong with it ends the session, with that as the reason."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, OSError):
            error = AdapterError(f"what workers are to do cannot be written below {self._spool.root}: {error}")
        self._trouble = self._trouble or error
        self._arrived.set()


LEAVE_WITHIN = 5.0
"""Seconds in which what is to be removed is told to the batch system before the run leaves."""


def check_epoch(info: RunInfo) -> None:
    """Raises `Fenced` where a later leader has claimed a segment of the run's log, or was here before."""
    claimed = epochs(Path(info.store, layout.log_dir(info.run)), REAL)
    latest = max([*claimed, *Spool(info.store, info.run).epochs()], default=0)
    if latest > info.epoch:
        raise Fenced(f"run {info.run} is led by epoch {latest}, and this is {info.epoch}")
