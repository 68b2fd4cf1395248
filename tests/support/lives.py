"""A run over several lives of its leader, on a log and a batch system in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from orch.attempt import Plan
from orch.bus import events as ev
from orch.leader.leader import Leader
from orch.leader.requests import Request
from orch.leader.settings import Settings, rules
from orch.leader.supply import Supply
from orch.state.fold import apply, fold
from orch.state.model import WORKFLOW, State
from orch.state.react import planned
from orch.testing.batch import FakeBatch
from orch.testing.faults import Crash
from orch.testing.log import MemoryLog, MemoryWriter
from support.workflows import Resolved, resolve

RUN = "run"


class Lives:
    """One run: its log and its batch system stay, leaders come and go.

    `state`    that of the leader that lives, or lived last; what the log says after one was killed
    """

    def __init__(self, plan: Plan, batch: FakeBatch, *, retries: int = 0) -> None:
        self.plan = plan
        self.batch = batch
        self.log = MemoryLog(RUN, batch.clock)
        self.settings = Settings(adapter="fake", retries=retries, retry_backoff=0.0)
        self.state = State()
        self.leader: Leader | None = None
        self.published: list[ev.Event] = []
        self.recorded: list[Request] = []
        batch.on_submit = lambda attempt: self._intended(attempt.key)
        batch.on_acknowledge = self._durable

    async def live(
        self, *, restart: bool = False, crash: Crash | None = None, pauses: Callable[[], int] = lambda: 0
    ) -> None:
        """One life of a leader, from its start to its end. Raises what ended it, if it did not leave in order."""
        state = fold(self.log.events)
        writer = self.log.open(crash, pauses)
        apply(state, writer.opened)
        self.state = state
        await self._begin(writer, restart=restart)
        session = self.batch.connect(writer.epoch)
        self.leader = Leader(
            state, writer, session, self.settings, publish=self.published.extend, recorded=self.recorded.append
        )
        try:
            await self.leader.lead()
        except BaseExceptionGroup as group:
            self.state = fold(self.log.events)  # what the dead leader knew, but had not made durable, never was
            raise _only(group) from group

    async def _begin(self, writer: MemoryWriter, *, restart: bool) -> None:
        events: list[ev.Event] = []
        if self.state.planned is None:
            events = [ev.Created(run=RUN), *planned(self.plan, rules(self.settings))]
        elif restart:
            events = [ev.Restarted(by="test")]
        crash, writer._crash = writer._crash, None
        for event in writer.stage(events):
            apply(self.state, event)
        await writer.commit()
        writer._crash = crash

    def wish(self, what: str) -> None:
        """Ask the leader for something."""
        assert self.leader is not None
        self.leader.request(Request(run=RUN, what=what, epoch=self.state.epoch, by="test"))

    def result(self) -> Resolved:
        """The run's value, read the way an attempt's values are."""
        supply = Supply(lambda seq: self.log.events[seq - 1])
        return resolve(supply.values(self.state, [WORKFLOW]), WORKFLOW)

    def said(self, *kinds: type[Any]) -> Iterator[Any]:
        """Durable events of some types."""
        return (event for event in self.log.events if isinstance(event, kinds))

    def _intended(self, key: str) -> None:
        assert any(event.key == key for event in self.said(ev.Submitting)), f"{key}: effect before intention"

    def _durable(self, key: str) -> None:
        job, attempt = map(int, key.split(".")[1:])
        ends = (ev.Succeeded, ev.Retrying, ev.Failed, ev.Cancelled)
        assert any(
            isinstance(event, ends) and (event.job, event.attempt) == (job, attempt) for event in self.log.events
        ), f"{key}: acknowledged before it was durable"


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
