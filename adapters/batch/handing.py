"""Hands attempts over: orders first, durable; then the batch system's command; then what it calls them.

Where the answer to a submission was lost, the batch system may have it or not. It is asked for it by name, for as long
as that takes. If it says no, the tickets are revoked before anything is submitted again: should what was lost turn up
after all, its workers find that and leave.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from orch.adapters.batch.board import Board
from orch.adapters.batch.dialect import Answer, Command, NotTaken, Order, Refused, Trouble
from orch.adapters.batch.engine import Engine
from orch.adapters.batch.limits import Limits
from orch.adapters.batch.pace import Turnstile
from orch.adapters.batch.portions import Portion, order_name, portions
from orch.adapters.batch.records import Owner, Submission, Task
from orch.adapters.contract import Queued, RunInfo, Said, Update
from orch.attempt import Attempt, Outcome, Reason
from orch.bus.hands import hands
from orch.worker.script import worker_script
from orch.worker.spool import Header, Spool, Ticket

GATHER = 0.02
"""Seconds for which more is waited for, so that it goes together."""

AT_ONCE = 3
"""Submissions of a run that are under way at once."""

ROUNDS_AT_ONCE = 6
ROUND_GAP = 3.0
"""With arrays: so many rounds of submissions at once, and then one each so many seconds: trickles become arrays."""

SURELY_VISIBLE = 3.0
"""Seconds after which a submission that was taken is found by name, whatever the dialect says."""


class Handing:
    """Of one run. `fenced` raises if another leader has taken over; it is called in a thread."""

    def __init__(
        self,
        info: RunInfo,
        engine: Engine,
        spool: Spool,
        board: Board,
        owner: Owner,
        *,
        tell: Callable[[Update], None],
        fenced: Callable[[], None],
    ) -> None:
        self._info = info
        self._engine = engine
        self._spool = spool
        self._board = board
        self._owner = owner
        self._tell = tell
        self._fenced = fenced
        self.limits = Limits(info.cores, info.memory, info.disk)
        self.waiting: dict[str, Attempt] = {}
        self.stop: set[str] = set()  # services that are to stop as soon as they are up
        self._attempts: dict[str, Attempt] = {}  # taken from there, should they have to be handed over again
        self._warned: set[str] = set()
        self._numbers = 0
        self._woken = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._turnstile = Turnstile(ROUNDS_AT_ONCE, ROUND_GAP)

    def begin_after(self, submissions: Sequence[str]) -> None:
        """Number on from these."""
        own = [name.partition("-")[2] for name in submissions if name.startswith(f"{self._info.epoch}-")]
        self._numbers = max([self._numbers, *(int(number) for number in own if number.isdecimal())])

    def has(self, key: str) -> bool:
        """Does an attempt wait here, or for its turn to be handed over?"""
        return key in self.waiting or key in self._attempts

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Hand these over, some time soon."""
        self.waiting.update({attempt.key: attempt for attempt in attempts})
        self._woken.set()

    def ended(self, key: str) -> None:
        """An attempt is over: there may be room for another."""
        self._attempts.pop(key, None)
        self.stop.discard(key)
        if self.limits.give_back(key) and self.limits.any:
            self._woken.set()

    def wake(self) -> None:
        """There may be room."""
        self._woken.set()

    async def run(self, spawn: Callable[..., object]) -> None:
        """Hand over, for ever. `spawn` starts a task, and minds it."""
        while True:
            await self._woken.wait()
            await asyncio.sleep(GATHER)
            if self._engine.dialect.most_tasks > 1:
                await asyncio.sleep(self._turnstile.wait(time.monotonic()))
            self._woken.clear()
            taken = self._take()
            if taken:
                self._turnstile.through(time.monotonic())
            for portion in portions(
                map(self._known_keys_only, taken),
                self._engine.choices,
                self._engine.dialect.most_tasks,
                self._engine.grace,
            ):
                await self._slots.acquire()
                spawn(self._hand_over(portion))

    def _take(self) -> list[Attempt]:
        """What waits and has room, the most urgent first."""
        taken = []
        for attempt in sorted(self.waiting.values(), key=lambda each: -each.priority):
            if self.limits.any and not self.limits.fits(attempt.resources):
                break  # what is behind it must not overtake it for ever
            self.limits.take(attempt.key, attempt.resources)
            taken.append(self.waiting.pop(attempt.key))
            self._attempts[attempt.key] = attempt
        return taken

    def _known_keys_only(self, attempt: Attempt) -> Attempt:
        """Without settings that the dialect does not know; unless it is strict, and refuses them itself."""
        known, asked = self._engine.dialect.backend_keys, attempt.resources
        strange = [key for key, _ in asked.backend if known is not None and key not in known]
        if not strange or self._engine.choices.strict:
            return attempt
        for key in strange:
            if key not in self._warned:
                self._warned.add(key)
                self._tell(
                    Said(
                        f"backend: {self._engine.name} has no {key!r}, it is left out ({attempt.name or attempt.kind})"
                    )
                )
        kept = tuple(each for each in asked.backend if each[0] not in strange)
        return msgspec.structs.replace(attempt, resources=msgspec.structs.replace(asked, backend=kept))

    async def _hand_over(self, portion: Portion) -> None:
        try:
            attempts = [each for each in portion.attempts if each.key in self.limits]  # else cancelled meanwhile
            if attempts:
                await self._submit(attempts, portion.order)
        finally:
            self._slots.release()

    async def _submit(self, attempts: list[Attempt], order: Order) -> None:
        self._numbers += 1
        name = f"{self._info.epoch}-{self._numbers}"
        searched = order_name(self._spool.store, self._spool.run, name)
        submission = Submission(name, searched, time.time(), self._spool, self._owner)
        submission.tasks = [Task(each.key, Ticket(name, index), submission) for index, each in enumerate(attempts, 1)]
        self._attempts.update({each.key: each for each in attempts})
        self._board.add(submission)
        order = await hands().run(self._write, submission, attempts, order)
        try:
            submission.job = await self._until_taken(submission, order)
        except Refused as error:
            self._refused(submission, str(error))
            return
        if submission.job:
            await hands().run(self._spool.write_id, name, submission.job)
            self.taken(submission)

    def standing(self, key: str) -> None:
        """Say again where an attempt stands that is known here."""
        task = self._board.tasks.get(key)
        if task is None:
            self._tell(Queued(key))
        else:
            self._board.standing(task)

    def taken(self, submission: Submission, since: float | None = None) -> None:
        """It is there: watch it. `since`: when it was handed over (monotonic seconds), if not now."""
        submission.handed = time.monotonic() if since is None else since
        self._board.taken(submission)
        self._engine.watch.add(submission, at_once=since is not None)
        self._engine.removing.wake()

    def _write(self, submission: Submission, attempts: list[Attempt], order: Order) -> Order:
        """The files of a submission, and its order."""
        self._fenced()
        info, choices = self._info, self._engine.choices
        header = Header(
            run=info.run,
            epoch=info.epoch,
            name=submission.order,
            store=info.store,
            made=submission.made,
            python_path=info.python_path,
            work_dir=choices.work_dir,
            clean_scratch=info.clean_scratch,
            named=info.named,
        )
        self._spool.write_orders(submission.name, header, attempts)
        for task in submission.tasks:
            if task.key in self.stop:
                self._spool.ask_to_stop(task.ticket)
        dialect = self._engine.dialect
        text = worker_script(
            info.store,
            info.run,
            submission.name,
            size=len(attempts),
            index=dialect.index_variable,
            job=dialect.job_variable,
            python=choices.python,
            environment=info.environment,
        )
        script = self._spool.write_script(submission.name, text)
        index = "{index}" if len(attempts) > 1 else "1"
        log = self._spool.path("output", f"{submission.name}.{index}.log")
        return msgspec.structs.replace(order, name=submission.order, size=len(attempts), script=script, log=log)

    async def _until_taken(self, submission: Submission, order: Order) -> str:
        """What the batch system calls it; empty: it was given up, and what of it is wanted waits again."""
        dialect, calls = self._engine.dialect, self._engine.calls

        def taken(answers: Sequence[Answer]) -> str:
            return dialect.submitted(order, answers[0])

        while any(task.wanted for task in submission.tasks):
            try:
                commands: list[Command] = [dialect.submit(order)]
                return await calls.ask("submit", commands, taken)
            except NotTaken:
                continue
            except Trouble:
                return await self._found(submission)
        await self.revoke(submission)  # all of it was cancelled before it was taken
        return ""

    async def _found(self, submission: Submission) -> str:
        """The same, where the answer was lost."""
        lost = time.monotonic()
        while True:
            job = await self._engine.searching.search(submission.order, submission.made)
            if job:
                return job
            if time.monotonic() - lost >= max(SURELY_VISIBLE, self._engine.dialect.lag):
                break
            await asyncio.sleep(1.0)
        await self._give_up(submission)
        self._engine.stray(submission)
        return ""

    async def _give_up(self, submission: Submission) -> None:
        """The batch system has it not: what is wanted of it waits again."""
        attempts = {task.key: self._attempts.pop(task.key, None) for task in submission.tasks}
        for task in await self.revoke(submission):
            attempt = attempts[task.key]
            assert attempt is not None
            self.limits.give_back(task.key)
            self.add([attempt])

    async def revoke(self, submission: Submission) -> list[Task]:
        """See to it that nothing of it begins any more. Those that are wanted, and that no worker has all the same."""
        claims = await hands().run(self._spool.revoke, [task.ticket for task in submission.tasks])
        left = []
        for task in submission.tasks:
            if task.ticket in claims:
                self._board.started(task, claims[task.ticket])
                continue
            if task.wanted:
                left.append(task)
            self._board.given_up(task)
        return left

    def _refused(self, submission: Submission, why: str) -> None:
        for task in submission.tasks:
            task.gone = True
            if task.wanted:
                outcome = Outcome(key=task.key, reason=Reason.ERROR, message=f"{self._engine.name} refuses it: {why}")
                self._board.finish(task, outcome)
