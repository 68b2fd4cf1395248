"""The leader: the one process that may append to a run's log.

One turn: take what has come → turn it into events → decide → make all of it durable with one append → only then act.
The state is folded as events are staged, so that one append can hold both what happened and what is intended; but
nothing leaves the leader (no call of the adapter, no acknowledgement, nothing to subscribers) before the append is
durable. If it fails, the leader ends.

After a restart, a leader first asks the adapter about every attempt that was live, and schedules nothing before each
has been answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import anyio
import msgspec
from anyio.lowlevel import cancel_shielded_checkpoint

from orch.adapters.contract import Finished, OfAttempt, Said, Session, Unknown, Update, fits
from orch.attempt import Attempt, Reason
from orch.bus import events as ev
from orch.calls.record import UNSTORED
from orch.errors import AdapterError, UserError
from orch.leader.aside import Aside
from orch.leader.backoff import Backoff
from orch.leader.calls import Cache
from orch.leader.chaos import doom
from orch.leader.inbox import Inbox
from orch.leader.requests import SET, WISHES, Request
from orch.leader.settings import Settings, ever, from_log, live_limits, make_limits, rules
from orch.leader.stall import Stall
from orch.leader.supply import Supply
from orch.leader.turn import Concern, Found, Item, Turn
from orch.state import chain
from orch.state.decide import Decision, Limits, attempt_key, decide
from orch.state.fold import fold
from orch.state.law import JobState
from orch.state.model import Job, State
from orch.state.policy import back_off
from orch.state.react import live_row, react

SLICE = 256
"""Updates, or attempts, after which a leader lets the others of its loop go ahead: some hundredths of a second.

Less than that are one portion: nobody else moves during a short turn.
"""


class Writer(Protocol):
    """What the leader needs of a log."""

    def stage(self, events: Sequence[ev.Event]) -> list[ev.Event]:
        """Number and date events, to be written with the next `commit`."""

    async def commit(self) -> None:
        """Make everything staged durable. Raises `LogTrouble` or `Fenced`."""

    def fetch(self, seq: int) -> ev.Event:
        """Read a durable event again."""


class Leader:
    """Leads one run from its present state until it has ended, is stopped, or this leader is cancelled.

    `supply` gives what the run's events carry, and has most of what it needs soon at hand.
    """

    def __init__(
        self,
        state: State,
        log: Writer,
        session: Session,
        settings: Settings,
        *,
        publish: Callable[[list[ev.Event]], None],
        recorded: Callable[[Request], None],
        calls: Cache | None = None,
    ) -> None:
        assert state.created is not None
        self.state = state
        self._log = log
        self._session = session
        self._settings = settings.override(**state.adjusted) if state.adjusted else settings
        self._rules = rules(self._settings)
        self._begun = from_log(state.created.settings)
        self._publish = publish
        self._recorded = recorded
        self._run = state.created.run
        self._cwd = state.created.cwd
        self.supply = Supply(log.fetch)
        self._inbox: Inbox[Item] = Inbox()
        self._backoff = Backoff(state, anyio.current_time)
        self._aside = Aside(state, log.fetch, self.supply, calls, self._inbox.put, reuse=self._settings.cache != "off")
        self._stall = Stall(state, session, anyio.current_time)
        self._unsettled = {state.jobs[job].key for job in state.live}
        self._ask = 0  # number of the latest question to the adapter
        self._early: dict[str, Finished] = {}  # of links: what came before the end of the one before them
        self._asked: set[str] = set()  # to end: keys
        self._told: set[str] = set()  # to stop: keys of services
        self._whole = True  # what is staged is what a whole turn came to

    def request(self, request: Request) -> None:
        """Hear a wish."""
        self._inbox.put([request])

    def warn(self, text: str) -> None:
        """Have something said to the user."""
        self._inbox.put([Concern(text)])

    async def lead(self) -> None:
        """Lead. Raises `Fenced`, `LogTrouble`, `AdapterError`. When cancelled, live attempts go on."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, self._session.updates())
            await self._find(sorted(self._unsettled))
            self._aside.begin(tasks)
            if not self._unsettled:
                self._inbox.put([])
            try:
                while not await self._turn(await self._inbox.take(self._next_look())):
                    pass
            finally:
                tasks.cancel_scope.cancel()

    def _next_look(self) -> float | None:
        """When there is something to do although nothing has come."""
        if self._unsettled:
            return None
        times = [self._backoff.next, self._stall.over(self._settings.deadlock_wait)]
        return min((time for time in times if time is not None), default=None)

    async def _find(self, keys: list[str]) -> None:
        self._ask += 1
        await self._session.find(keys, self._ask)

    async def leave(self) -> None:
        """Say in the log that this leader goes, whatever is left to do. Raises `Fenced`, `LogTrouble`.

        After a turn that broke half-way nothing is said: its events must not become durable with the last word.
        """
        if self._whole and not self.state.closed:
            turn = Turn()
            self._stage(turn, [ev.Closed(reason="left")])
            await self._log.commit()
            self._publish(turn.events)

    async def _listen(self, updates: AsyncIterator[list[Update]]) -> None:
        try:
            async for batch in updates:
                self._inbox.put(list(batch))
            raise AdapterError("the adapter has ended its updates while the run goes on")
        except Exception as error:  # noqa: BLE001 - whatever ends the stream ends the leader, with this as its reason
            self._inbox.fail(error)

    async def _turn(self, items: Sequence[Item]) -> bool:
        """One turn; True if it was the last."""
        turn = Turn()
        self._whole = False
        self._rules = rules(self._settings, self._session.capacity().memory)
        for number, item in enumerate(items):
            await breathe(number)
            if isinstance(item, Request):
                self._hear(turn, item)
            elif isinstance(item, Found):
                self._reuse(turn, item)
            elif isinstance(item, Concern | Said):
                self._stage(turn, [ev.Warned(message=item.text)])
            else:
                self._learn(turn, item)
        # Of a link that has become void, the adapter says nothing any more.
        self._unsettled = {key for key in self._unsettled if live_row(self.state, key) is not None}
        if not self._unsettled:
            await self._decide(turn)
        with anyio.CancelScope(shield=True):  # half a turn is worse than a late cancellation
            if turn.events:
                await self._log.commit()
                self._publish(turn.events)
            self._whole = True
            await self._act(turn)
        await self._aside.follow(turn)
        return turn.last

    # Deciding: no I/O from here … A long turn lets others go ahead now and then; nothing else is waited for.

    def _stage(self, turn: Turn, events: list[ev.Event]) -> None:
        staged = self._log.stage(events)
        fold(staged, self.state)
        for event in staged:
            self.supply.note(event)
            self._backoff.note(event)
        turn.events += staged

    def _hear(self, turn: Turn, request: Request) -> None:
        if request.what in WISHES and not request.job:
            heard: ev.Event = ev.Requested(what=request.what, by=request.by)
        elif request.what == SET and not request.job:
            heard = self._adjust(turn, request)
        else:  # a file that anybody can write must neither end the leader nor get into the log as law
            of_job = f" of job {request.job}" if request.job else ""
            heard = ev.Warned(message=f"{request.by or 'somebody'} asks for a {request.what!r}{of_job}: not known here")
        self._stage(turn, [heard])
        turn.requests.append(request)

    def _adjust(self, turn: Turn, request: Request) -> ev.Event:
        try:
            settings = make_limits(**request.settings)
        except UserError as error:
            return ev.Warned(message=f"{request.by or 'somebody'} wished to change settings: {error}")
        self._settings = self._settings.override(**settings)
        self._rules = rules(self._settings, self._session.capacity().memory)
        turn.limit = True
        return ev.Adjusted(settings=settings, by=request.by)

    def _reuse(self, turn: Turn, found: Found) -> None:
        """The call cache has answered about a job."""
        if found.job not in self.state.surveyed:
            return
        if found.reuse is None or self.state.ending:
            self._backoff.release(found.job)
            return
        reuse = found.reuse
        self._stage(
            turn,
            [ev.Reused(job=found.job, run=reuse.run, source=reuse.source, values=reuse.values, files=reuse.files)],
        )

    def _learn(self, turn: Turn, update: OfAttempt) -> None:
        key = update.outcome.key if isinstance(update, Finished) else update.key
        if isinstance(update, Unknown) and (update.ask != self._ask or key not in self._unsettled):
            if not update.ask:
                self._doubt(turn, key)
            return  # else an old answer, or one that comes twice: the attempt may have been handed over since, and run
        if isinstance(update, Finished) and (row := live_row(self.state, key)) is not None and row.after:
            self._early[key] = update
            return
        events = react(self.state, update, self._rules, self._refuse)
        if events:
            self._stage(turn, [each for each in events if not self._was_said(each)])
        turn.look_up += [(each.job, each.call) for each in events if isinstance(each, ev.Surveyed) and each.call]
        self._unsettled.discard(key)
        if isinstance(update, Finished):
            turn.acknowledge.append(key)
            self._asked.discard(key)
            self._told.discard(key)
            if update.outcome.reason is Reason.MISSING:
                turn.cancel.append(key)  # should it come back: nobody wants it any more
            self._learn_late(turn)
        elif isinstance(update, Unknown):
            row = live_row(self.state, key)
            if row is not None and row.state is JobState.SUBMITTING:
                turn.submit.append(row.id)

    def _was_said(self, event: ev.Event) -> bool:
        """Is it the warning that holds for all jobs, and was given?"""
        return isinstance(event, ev.Warned) and event.message == UNSTORED and UNSTORED in self.state.warnings

    def _learn_late(self, turn: Turn) -> None:
        """The ends of links that came before those of what they follow: does that stand by now?"""
        for key, update in list(self._early.items()):
            row = live_row(self.state, key)
            if row is None or not row.after:
                del self._early[key]
                self._learn(turn, update)
                return  # which has looked at the others

    def _doubt(self, turn: Turn, key: str) -> None:
        """The adapter says unasked that it does not know a live attempt: its agent may have died before it heard of it.

        It is asked about everything, as after a restart, before anything is done.
        """
        if live_row(self.state, key) is not None:
            self._unsettled = {self.state.jobs[job].key for job in self.state.live}
            turn.ask = True

    def _refuse(self, wanted: ev.Resources) -> str:
        return fits(wanted, ever(self._session.capacity(), self._begun))

    async def _decide(self, turn: Turn) -> None:
        limits = live_limits(self._settings, self._session.capacity())
        decision = self._first_things_first(turn, limits)
        for first in range(0, len(decision.submit), SLICE):
            await breathe(first)
            self._intend(turn, decision.submit[first : first + SLICE])
        cancel = [key for key in decision.cancel if key not in self._asked]
        self._asked.update(cancel)
        turn.cancel += cancel
        turn.stop += [key for key in decision.stop if key not in self._told]
        self._told.update(turn.stop)
        for job in decision.remove:
            self._remove(turn, job)
        if decision.end:
            self._stage(turn, [ev.Ended(outcome=decision.end)])
        turn.last = bool(decision.end) or decision.leave
        if turn.last:
            self._stage(turn, [ev.Closed(reason="ended" if self.state.outcome else "stopped")])

    def _first_things_first(self, turn: Turn, limits: Limits) -> Decision:
        """Checkpoints run again, and lost causes are given up, before anything else is decided."""
        while True:
            decision = decide(self.state, limits, self._backoff.due())
            if decision.rewind:
                self._stage(turn, [self._rewound(job, failed) for job, failed in decision.rewind[:1]])
            elif decision.abandon:
                self._stage(turn, [ev.Abandoned(why="first failure", message=decision.abandon)])
            elif stall := self._stall.look(limits, decision, self._settings.deadlock_wait):
                self._stage(turn, [ev.Abandoned(why="deadlock", message=stall)])
            else:
                return decision

    def _rewound(self, job: ev.JobId, failed: ev.JobId) -> ev.Event:
        row = self.state.jobs[job]
        return ev.Rewound(job=job, failed=failed, wait=back_off(row, row.charged, self._rules))

    def _intend(self, turn: Turn, jobs: Sequence[ev.JobId]) -> None:
        """Intend attempts, and the links of chains that can run in their places afterwards."""
        chains = self._settings.chaining and self._session.capacity().chains
        intentions: list[ev.Event] = []
        for job in jobs:
            row = self.state.jobs[job]
            links = [row, *chain.links(self.state, row)] if chains else [row]
            intentions += map(self._intention, links, (None, *links))
            turn.submit += [each.id for each in links]
        self._stage(turn, intentions)

    def _intention(self, row: Job, before: Job | None) -> ev.Event:
        return ev.Submitting(
            job=row.id,
            attempt=row.attempt + 1,
            key=attempt_key(self._run, row.id, row.attempt + 1),
            adapter=self._settings.adapter,
            after=0 if before is None else before.id,
            survey=row.survey,
        )

    def _remove(self, turn: Turn, job: ev.JobId) -> None:
        """Have the files of a job deleted that were to be kept for its successors only."""
        seq = self.state.jobs[job].output_seq
        event = next((each for each in turn.events if each.seq == seq), None) or self._log.fetch(seq)
        files = [file.path for file in getattr(event, "files", ()) if file.keep == "successors"]
        self._stage(turn, [ev.Removed(job=job, files=files)])
        turn.remove += files

    # … to here. Acting: everything below is durable.

    async def _act(self, turn: Turn) -> None:
        for request in turn.requests:
            self._recorded(request)
        if turn.acknowledge:
            await self._session.acknowledge(turn.acknowledge)
        if turn.limit:
            await self._session.limit(self._settings.cores, self._settings.memory, self._settings.disk)
        if turn.submit:
            await self._session.submit(await self._attempts(turn.submit))
        if turn.stop:
            await self._session.stop_services(turn.stop)
        if turn.ask:
            await self._find([self.state.jobs[job].key for job in self.state.live])
        if turn.cancel:
            await self._session.cancel(turn.cancel)

    async def _attempts(self, jobs: Sequence[ev.JobId]) -> list[Attempt]:
        attempts = []
        for number, job in enumerate(jobs):
            await breathe(number)
            attempts.append(self._attempt(job))
        return attempts

    def _attempt(self, job: ev.JobId) -> Attempt:
        attempt = self.supply.attempt(self.state, self.state.jobs[job], self._cwd, self._settings.max_log)
        if not self._settings.chaos:
            return attempt
        seconds = doom(attempt.key, self._settings.chaos, self._settings.chaos_seconds)
        return msgspec.structs.replace(attempt, doom=seconds)


async def breathe(number: int) -> None:
    """Before the one of many things that has this number, from 0 on: now and then, let others go ahead."""
    if number and not number % SLICE:
        await cancel_shielded_checkpoint()
