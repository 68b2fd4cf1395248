"""The leader: the one process that may append to a run's log.

One turn: take what has come → turn it into events → decide → make all of it durable with one append → only then act.
The state is folded as events are staged, so that one append can hold both what happened and what is intended; but
nothing leaves the leader (no call of the adapter, no acknowledgement, nothing to subscribers) before the append is
durable. If it fails, the leader ends.

After a restart, a leader first asks the adapter about every attempt that was live, and schedules nothing before each
has been answered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import anyio

from orch.adapters.contract import Capacity, Finished, Session, Unknown, Update, fits
from orch.attempt import Attempt, Reason
from orch.bus import events as ev
from orch.errors import AdapterError
from orch.leader.inbox import Inbox
from orch.leader.requests import WISHES, Request
from orch.leader.settings import Settings
from orch.leader.supply import Supply
from orch.state.decide import Limits, attempt_key, decide
from orch.state.fold import apply
from orch.state.law import JobState
from orch.state.model import State
from orch.state.react import live_row, react


class Writer(Protocol):
    """What the leader needs of a log."""

    def stage(self, events: Sequence[ev.Event]) -> list[ev.Event]:
        """Number and date events, to be written with the next `commit`."""

    async def commit(self) -> None:
        """Make everything staged durable. Raises `LogTrouble` or `Fenced`."""

    def fetch(self, seq: int) -> ev.Event:
        """Read a durable event again."""


@dataclasses.dataclass
class Turn:
    """What one turn has staged, and what it will do once that is durable."""

    events: list[ev.Event] = dataclasses.field(default_factory=list)
    submit: list[ev.JobId] = dataclasses.field(default_factory=list)
    acknowledge: list[str] = dataclasses.field(default_factory=list)
    cancel: list[str] = dataclasses.field(default_factory=list)
    requests: list[Request] = dataclasses.field(default_factory=list)
    ask: bool = False
    last: bool = False


class Leader:
    """Leads one run from its present state until it has ended, is stopped, or this leader is cancelled."""

    def __init__(
        self,
        state: State,
        log: Writer,
        session: Session,
        settings: Settings,
        *,
        publish: Callable[[list[ev.Event]], None],
        recorded: Callable[[Request], None],
    ) -> None:
        assert state.created is not None
        self.state = state
        self._log = log
        self._session = session
        self._settings = settings
        self._publish = publish
        self._recorded = recorded
        self._run = state.created.run
        self._cwd = state.created.cwd
        self._supply = Supply(log.fetch)
        self._inbox: Inbox[Update | Request] = Inbox()
        self._unsettled = {state.jobs[job].key for job in state.live}
        self._ask = 0  # number of the latest question to the adapter
        self._asked: set[str] = set()  # to end: keys
        self._whole = True  # what is staged is what a whole turn came to

    def request(self, request: Request) -> None:
        """Hear a wish."""
        self._inbox.put([request])

    async def lead(self) -> None:
        """Lead. Raises `Fenced`, `LogTrouble`, `AdapterError`. When cancelled, live attempts go on."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, self._session.updates())
            await self._find(sorted(self._unsettled))
            if not self._unsettled:
                self._inbox.put([])
            try:
                while not await self._turn(await self._inbox.take()):
                    pass
            finally:
                tasks.cancel_scope.cancel()

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

    async def _turn(self, items: Sequence[Update | Request]) -> bool:
        """One turn; True if it was the last."""
        turn = Turn()
        self._whole = False
        for item in items:
            if isinstance(item, Request):
                self._hear(turn, item)
            else:
                self._learn(turn, item)
        if not self._unsettled:
            self._decide(turn)
        with anyio.CancelScope(shield=True):  # half a turn is worse than a late cancellation
            if turn.events:
                await self._log.commit()
                self._publish(turn.events)
            self._whole = True
            await self._act(turn)
        return turn.last

    # Deciding: no I/O from here …

    def _stage(self, turn: Turn, events: list[ev.Event]) -> None:
        for event in self._log.stage(events):
            apply(self.state, event)
            self._supply.note(event)
            turn.events.append(event)

    def _hear(self, turn: Turn, request: Request) -> None:
        if request.what in WISHES and not request.job:
            heard: ev.Event = ev.Requested(what=request.what, by=request.by)
        else:  # a file that anybody can write must neither end the leader nor get into the log as law
            of_job = f" of job {request.job}" if request.job else ""
            heard = ev.Warned(message=f"{request.by or 'somebody'} asks for a {request.what!r}{of_job}: not known here")
        self._stage(turn, [heard])
        turn.requests.append(request)

    def _learn(self, turn: Turn, update: Update) -> None:
        key = update.outcome.key if isinstance(update, Finished) else update.key
        if isinstance(update, Unknown) and (update.ask != self._ask or key not in self._unsettled):
            if not update.ask:
                self._doubt(turn, key)
            return  # else an old answer, or one that comes twice: the attempt may have been handed over since, and run
        self._stage(turn, react(self.state, update, self._settings.retries, self._refuse))
        self._unsettled.discard(key)
        if isinstance(update, Finished):
            turn.acknowledge.append(key)
            self._asked.discard(key)
            if update.outcome.reason is Reason.MISSING:
                turn.cancel.append(key)  # should it come back: nobody wants it any more
        elif isinstance(update, Unknown):
            row = live_row(self.state, key)
            if row is not None and row.state is JobState.SUBMITTING:
                turn.submit.append(row.id)

    def _doubt(self, turn: Turn, key: str) -> None:
        """The adapter says unasked that it does not know a live attempt: its agent may have died before it heard of it.

        It is asked about everything, as after a restart, before anything is done.
        """
        if live_row(self.state, key) is not None:
            self._unsettled = {self.state.jobs[job].key for job in self.state.live}
            turn.ask = True

    def _refuse(self, wanted: ev.Resources) -> str:
        return fits(wanted, self._session.capacity())

    def _decide(self, turn: Turn) -> None:
        decision = decide(self.state, limits(self._session.capacity()))
        adapter = self._settings.adapter
        intentions: list[ev.Event] = []
        for job in decision.submit:
            attempt = self.state.jobs[job].attempt + 1
            key = attempt_key(self._run, job, attempt)
            intentions.append(ev.Submitting(job=job, attempt=attempt, key=key, adapter=adapter))
        self._stage(turn, intentions)
        turn.submit.extend(decision.submit)
        cancel = [key for key in decision.cancel if key not in self._asked]
        self._asked.update(cancel)
        turn.cancel += cancel
        if decision.end:
            self._stage(turn, [ev.Ended(outcome=decision.end)])
        turn.last = bool(decision.end) or decision.leave
        if turn.last:
            self._stage(turn, [ev.Closed(reason="ended" if self.state.outcome else "stopped")])

    # … to here. Acting: everything below is durable.

    async def _act(self, turn: Turn) -> None:
        for request in turn.requests:
            self._recorded(request)
        if turn.acknowledge:
            await self._session.acknowledge(turn.acknowledge)
        if turn.submit:
            await self._session.submit([self._attempt(job) for job in turn.submit])
        if turn.ask:
            await self._find([self.state.jobs[job].key for job in self.state.live])
        if turn.cancel:
            await self._session.cancel(turn.cancel)

    def _attempt(self, job: ev.JobId) -> Attempt:
        return self._supply.attempt(self.state, self.state.jobs[job], self._cwd, self._settings.max_log)


def limits(capacity: Capacity) -> Limits:
    """How many attempts may be live at once: those that fit, if each takes a core, and those handed over ahead."""
    return Limits(slots=max(1, int(capacity.cores)), ahead=capacity.ahead)
